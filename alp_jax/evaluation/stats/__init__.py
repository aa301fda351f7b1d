"""Metrics, intervals, floors, and what qualifies a result."""
