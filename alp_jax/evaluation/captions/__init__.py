"""Scores of generated captions against references, as the field's evaluation code defines them, without Java."""
