"""Cases drawn by a seed, trained where nobody has looked before."""
