"""Vectors of audio files and folders from a frozen encoder.

Dimensions: K widths of a batch, N embedded files, M files that could not be used.
"""
