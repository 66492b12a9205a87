"""Runs that are killed, many at once and very long: what is lost of them."""
