"""The record of every experiment: typed records and the append-only store that keeps them."""
