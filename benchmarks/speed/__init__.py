"""How long the engine takes beside other libraries, and beside the least work that each job needs."""
