"""Metrics, intervals, floors, and what qualifies a result.

Dimensions: N clips or queries, U units that are resampled, R resamples, S seeds, K metrics or distinct values, B blocks
of clips with equal scores, C classes.
"""
