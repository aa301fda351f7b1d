"""Checks of this project against folders of reference vectors: case.py finds them, runner.py runs each by its kind.

Suffixes name axes, as in ``alp_jax.models``: B clips, T frames, F mel bins, L tokens, D and C channels, N draws. In
recipe.py A clips, T captions, E embedding and Q queries of a search.
"""
