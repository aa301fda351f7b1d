"""Measures on this machine what the step, the loss, the loader and the index cost, and whether damage is noticed.

Suffixes name axes: B clips of a batch, D features of an embedding, N clips of a data set.
"""
