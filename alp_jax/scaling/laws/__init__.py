"""Scaling laws: forms, a robust fit with intervals, and the choice between forms."""
