"""Captions: their normal form, statistics and token ids."""
