"""Review in a browser: a local, read-only view of the experiments database, and the same as one file to send to a colleague."""
