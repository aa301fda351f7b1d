"""Decides which clips, crops and captions are in batch k.

Dimension letters: B rows of a batch, N entries of a stream, K buckets, C components of a mixture, S sources of the data
set, F shard files, W windows of them, T steps of a pass, R rounds of a permutation.
"""
