"""Metrics, intervals, floors, and notes that qualify a result.

Dimensions: N clips or queries, U units that are resampled, R resamples (r of one block), S seeds, K metrics or distinct
values, B blocks of clips with equal scores, C classes.
"""
