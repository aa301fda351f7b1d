"""Checkpoints to and from PyTorch, with proof that both compute the same."""
