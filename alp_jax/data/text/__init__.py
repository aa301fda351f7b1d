"""Captions: their normal form, statistics and token ids.

Dimension letters: n captions of a block, W words of all of them, V tags.
"""
