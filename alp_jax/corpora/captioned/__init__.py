"""Captioned corpora to train on, one per module or package, which defines CORPUS.

Every module name here is the name of a corpus. No names here carry dimension letters.
"""
