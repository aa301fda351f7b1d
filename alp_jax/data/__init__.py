"""Clips to TFRecord shards, and shards to global batches that are a pure function of the step.

Dimension letters: B rows of a batch, S samples of a row, L tokens of a caption, V tags; packages below have their own.
"""
