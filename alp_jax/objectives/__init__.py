"""Losses and metrics as pure functions of model outputs and batches.

Letters at the end of a name are the dimensions of an array, in order; a number is a dimension of that size.
    B  rows of the global batch                         L  tokens of a caption
    N  those of this device, M of all devices           V  vocabulary, or list of tags
    C  columns that are compared at a time              G  ways in which rows may be alike
    D  width of an embedding
"""
