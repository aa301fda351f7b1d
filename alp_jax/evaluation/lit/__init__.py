"""Alignment with a locked audio encoder (LiT): text towers and decoders that learn from stored frames alone."""
