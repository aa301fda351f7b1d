"""Finds training clips that are evaluation clips: by recording, by sound, by near-duplicate sound, by caption.

Dimension letters: N clips of a block, E evaluation clips, M values of a ragged column, C indexed clips, P pairs.
"""
