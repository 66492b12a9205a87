"""Estimators and tests; the unit is the independent example, never the token."""
