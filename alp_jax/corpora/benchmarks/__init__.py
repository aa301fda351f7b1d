"""Labelled evaluation sets with their official splits, a module each that defines CORPUS; nothing here draws a split.

Every name here is a corpus.
"""
