"""Captions of sounds: written by a decoder, scored against references.

Dimensions: N clips, K lengths of n-grams, R resamples.
"""
