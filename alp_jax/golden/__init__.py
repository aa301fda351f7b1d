"""Checks of this project against the reference's recorded numbers: case.py finds them, runner.py runs each by its kind.

Suffixes name axes, as in ``alp_jax.models``: B clips, T frames, F mel bins, L tokens, D and C channels, N draws. In
recipe.py: A clips, M captions, E features of an embedding, Q queries of a search.
"""
