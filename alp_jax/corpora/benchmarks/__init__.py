"""Labelled evaluation sets with their official splits, one per module, which defines CORPUS; none draws a split.

Every module name here is the name of a corpus. No names here carry dimension letters.
"""
