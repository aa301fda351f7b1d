"""Every audio encoder by its kind: ours, and those that other distributions bring by entry points."""

import functools
import importlib
from typing import Any

import jax.numpy as jnp
from flax import nnx

from alp_jax.config.domain import check_domains
from alp_jax.config.resolve import from_dict
from alp_jax.config.schema import ModelConfig
from alp_jax.config.schema.model import ENCODER_KINDS, ENCODERS
from alp_jax.core import plugins
from alp_jax.core.errors import UserError
from alp_jax.core.names import choose
from alp_jax.models.encoder_spec import Cost, EncoderSpec


def encoder_spec(config: ModelConfig) -> EncoderSpec:
    """The spec of the encoder of ``config``; UserError when there is no such kind, or its entry point is no spec."""
    return _ours(config.encoder_kind) if config.encoder_kind in ENCODER_KINDS else _outside(config.encoder_kind)


def _ours(kind: str) -> EncoderSpec:
    return importlib.import_module(f"alp_jax.models.{kind}").SPEC


@functools.cache
def _outside(kind: str) -> EncoderSpec:
    brought = plugins.load(ENCODERS, ENCODER_KINDS)
    spec = brought[choose(kind, (*ENCODER_KINDS, *brought), "config.model.encoder_kind")]
    if not isinstance(spec, EncoderSpec) or spec.kind != kind:
        raise UserError(f"entry point {kind!r} of {ENCODERS} is not an EncoderSpec of that kind: {spec!r:.80}")
    return spec


def encoder_settings(config: ModelConfig) -> Any:
    """The settings of the encoder, as its own dataclass.

    Raises:
      UserError, ConfigError: no such kind, or settings that an encoder from outside does not have or allow.
    """
    spec = encoder_spec(config)
    values = getattr(config, spec.section)
    if isinstance(values, spec.settings):
        return values
    where = f"config.model.{spec.section}"
    settings = from_dict(spec.settings, values, where)
    check_domains(settings, where)
    return settings


def make_encoder(config: ModelConfig, *, rngs: nnx.Rngs, dtype=jnp.float32) -> nnx.Module:
    """The encoder that ``config`` describes.

    Raises:
      UserError: an unknown kind or form of convolution, sizes that do not fit together.
    """
    return encoder_spec(config).make(encoder_settings(config), config, rngs=rngs, dtype=dtype)


def check_features(config: ModelConfig, num_mel_bins: int) -> None:
    """Raises UserError unless the encoder takes features of ``num_mel_bins``."""
    bins = encoder_settings(config).feature_dim
    if bins != num_mel_bins:
        raise UserError(
            f"config.model.{encoder_spec(config).section}.feature_dim is {bins} but config.features.num_mel_bins is "
            f"{num_mel_bins}: make them equal"
        )


def output_dim(config: ModelConfig) -> int:
    """Width of the frames that the encoder gives."""
    return encoder_spec(config).width(encoder_settings(config))


def encoder_frames(config: ModelConfig, mel_frames: int) -> int:
    """Frames that the encoder gives for a clip of ``mel_frames``."""
    return encoder_spec(config).frames(encoder_settings(config), mel_frames)


def encoder_cost(config: ModelConfig, mel_frames: int) -> Cost:
    """Parameters and operations of the encoder on a clip of ``mel_frames``."""
    return encoder_spec(config).cost(encoder_settings(config), mel_frames)


def require_export(config: ModelConfig) -> str:
    """What the authors' formats call the encoder; UserError when there is no export of it."""
    export = encoder_spec(config).export
    if export is None:
        kinds = ", ".join(kind for kind in ENCODER_KINDS if _ours(kind).export)
        raise UserError(
            f"config.model.encoder_kind = {config.encoder_kind!r} cannot be exported to this format: only {kinds} can"
        )
    return export
