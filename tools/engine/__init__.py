"""Numerical core: layer programs, captured calls, edits, sweeps, decoding, statistics. No input or output."""
