"""A data set on disk: shards of records, the index table, and how to open both.

Dimension letters: N clips (rows of the index), n some of those; of one sound, n samples.
"""
