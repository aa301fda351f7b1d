"""Optimisers, learning-rate schedules and averages of parameters.

Letters at the end of a name are the dimensions of an array, in order.
    N  parameters (leaves of their tree)                P  updates between two steps of the sizes
    G  groups of parameters with one learning rate      K  the last updates whose norms are kept
"""
