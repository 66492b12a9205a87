"""Investigations in which nothing can be found: how many of them confirm something about a place."""
