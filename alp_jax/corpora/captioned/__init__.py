"""Corpora with captions to train on, a module or package each that defines CORPUS; every name here is a corpus."""
