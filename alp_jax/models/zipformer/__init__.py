"""Zipformer audio encoder."""

from alp_jax.models.zipformer.encoder import Zipformer

__all__ = ["Zipformer"]
