"""Vectors of audio files and folders from a frozen encoder."""
