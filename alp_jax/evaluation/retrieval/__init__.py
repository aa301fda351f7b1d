"""Searching audio by caption, and captions by audio.

Dimensions: A clips, M captions, K distinct texts, Q queries, N candidates of a query (in ``alignment`` training clips),
R right ones among the candidates, P pairs of a query and one of its own candidates (or entries of a sparse table), V
words.
"""
