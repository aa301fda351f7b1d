"""Every audio encoder by its kind.

The contract: ``encoder(mel_BTF, len_B, *, padding, train) -> (frames_BTD, len_B)``, outputs that never depend on
padding, and ``draw_counts``, whose ``whitenings`` is the size of the whitening state that ``train`` carries.
"""

import jax.numpy as jnp
from flax import nnx

from alp_jax.config.schema import ModelConfig
from alp_jax.core.errors import UserError
from alp_jax.core.names import choose
from alp_jax.models.conformer import Conformer
from alp_jax.models.forms import Forms
from alp_jax.models.vit import ViT
from alp_jax.models.zipformer.encoder import Zipformer

KINDS = ("zipformer", "vit", "conformer")


def encoder_kind(config: ModelConfig) -> str:
    """``config.encoder_kind``; UserError when there is no such kind."""
    return choose(config.encoder_kind, KINDS, "config.model.encoder_kind")


REMAT = {"none": (), "layers": ("layers",), "text": ("text",), "all": ("front end", "layers", "text")}


def recomputed(config: ModelConfig) -> tuple[str, ...]:
    """What the backward pass recomputes; UserError for an unknown ``config.remat``."""
    return REMAT[choose(config.remat, REMAT, "config.model.remat")]


def make_encoder(config: ModelConfig, *, rngs: nnx.Rngs, dtype=jnp.float32) -> nnx.Module:
    """The encoder that ``config`` describes.

    Raises:
      UserError: an unknown kind or form of convolution, sizes that do not fit together.
    """
    kind, kw = encoder_kind(config), {"rngs": rngs, "dtype": dtype, "remat": "layers" in recomputed(config)}
    if kind == "zipformer":
        front = "front end" in recomputed(config)
        return Zipformer(config.encoder, forms=Forms.of(config), remat_front=front, **kw)
    if kind == "conformer":
        return Conformer(config.conformer, depthwise=config.depthwise_form, **kw)
    return ViT(config.vit, **kw)


def check_features(config: ModelConfig, num_mel_bins: int) -> None:
    """Raises UserError unless the encoder takes features of ``num_mel_bins``."""
    kind = encoder_kind(config)
    name, settings = ("encoder", config.encoder) if kind == "zipformer" else (kind, getattr(config, kind))
    if settings.feature_dim != num_mel_bins:
        raise UserError(
            f"config.model.{name}.feature_dim is {settings.feature_dim} but config.features.num_mel_bins is "
            f"{num_mel_bins}: make them equal"
        )


def output_dim(config: ModelConfig) -> int:
    """Width of the frames that the encoder gives."""
    kind = encoder_kind(config)
    if kind == "zipformer":
        return max(config.encoder.encoder_dim)
    return config.conformer.width if kind == "conformer" else config.vit.width
