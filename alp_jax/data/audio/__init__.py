"""Sounds out of files: what is in them, where it begins, and the samples."""
