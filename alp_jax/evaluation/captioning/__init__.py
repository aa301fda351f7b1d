"""Captions of sounds, written by a decoder and scored against references.

Dimensions: N clips, K = 4 lengths of n-grams, R resamples.
"""
