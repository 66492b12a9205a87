"""What can be claimed, and what has to be on record before it may be."""
