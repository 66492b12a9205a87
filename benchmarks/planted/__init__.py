"""Planted truth: small models whose mechanism is known by construction, and how well planners find it."""
