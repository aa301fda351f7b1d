"""Scaling laws: their forms, a robust fit with intervals, and the choice between forms.

Letters of dimensions: K problems, n runs, d inputs, T terms, P parameters, S starts, M starts that are followed,
R replicas of a bootstrap, m inputs at which a law is evaluated.
"""
