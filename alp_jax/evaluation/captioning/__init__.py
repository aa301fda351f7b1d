"""Captions of sounds: written by a decoder, scored against references."""
