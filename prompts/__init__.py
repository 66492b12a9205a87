"""Prompt templates and price tables: data only."""
