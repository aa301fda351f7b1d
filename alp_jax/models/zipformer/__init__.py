"""Zipformer audio encoder: front end, modules along time, layers in stacks, and the encoder they make."""
