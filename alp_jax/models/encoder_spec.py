"""How an encoder describes itself: everything that the rest of the project needs to know of it, in one place.

An encoder is called as ``encoder(mel_BTF, len_B, *, padding, train) -> (frames_BTD, len_B)``. Its outputs never depend
on padding, and the ``whitenings`` of its ``draw_counts`` are the size of the whitening state that ``train`` carries.

Cost functions follow a model in the order in which it is built, so that parameters (exact) and operations come from one
description. Activations, norms, softmax, residuals and downsampling count for parameters but not for operations.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
from flax import nnx

from alp_jax.config.schema import ModelConfig
from alp_jax.core.names import choose

REMAT = {"none": (), "layers": ("layers",), "text": ("text",), "all": ("front end", "layers", "text")}


def recomputed(config: ModelConfig) -> tuple[str, ...]:
    """What the backward pass recomputes; UserError for an unknown ``config.remat``."""
    return REMAT[choose(config.remat, REMAT, "config.model.remat")]


class Cost(NamedTuple):
    """Number of parameters; multiply-adds of a forward pass on one clip."""

    parameters: int = 0
    macs: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.parameters + other.parameters, self.macs + other.macs)

    def __mul__(self, times: int) -> "Cost":
        return Cost(self.parameters * times, self.macs * times)


def linear_cost(positions: int, width_in: int, width_out: int, *, bias: bool = True) -> Cost:
    """A linear layer at ``positions`` frames, patches or cells; a convolution has its taps in ``width_in``."""
    return Cost((width_in + bias) * width_out, positions * width_in * width_out)


def depthwise_cost(positions: int, taps: int, width: int) -> Cost:
    """A depthwise convolution with bias at ``positions`` frames or cells."""
    return Cost((taps + 1) * width, positions * taps * width)


def norm_cost(width: int) -> Cost:
    """A normalisation with scale and bias; its operations count as none."""
    return Cost(2 * width)


class EncoderPart(NamedTuple):
    """A module of an encoder that a plan compiles by itself and counts ``times``.

    Fields:
      path: of its parameters below those of the encoder.
      module: takes it out of the encoder.
      run: (apply, params, x_BTD, len_B, draws, *constants) -> out_BTD; ``len_B`` valid frames of the whole clips.
      shape: (frames, width) of ``x_BTD``; None where it is the log-mel.
      out: (frames, width) of ``out_BTD``.
      constants: shapes of float32 arrays that depend on the length alone.
    """

    name: str
    times: int
    path: tuple[str, ...]
    module: Callable[[nnx.Module], nnx.Module]
    run: Callable[..., jax.Array]
    shape: tuple[int, int] | None
    out: tuple[int, int]
    constants: tuple[tuple[int, ...], ...] = ()


@dataclasses.dataclass(frozen=True)
class EncoderSpec:
    """One encoder.

    Attributes:
      kind: its name in ``config.model.encoder_kind``, and that of its entry point if it comes from outside.
      settings: its dataclass of settings, each made by ``config.domain.setting``; ``feature_dim`` is the number of mel
        bins it takes.
      make: (settings, model, *, rngs, dtype) -> the module; ``model`` is all of ``config.model``.
      width: settings -> width of the frames that it gives.
      frames: (settings, log-mel frames) -> number of frames that it gives.
      cost: (settings, log-mel frames) -> ``Cost``.
      export: what the authors' formats call it (``alp_jax.interop.formats``); None: there is no export.
      section: the section of ``config.model`` that holds the settings. Our encoders have one each; others share this.
      presets: models with it, under names that are not taken: ``ModelConfig(encoder_kind=..., encoder_settings=
        Settings.of(...))``. Ours are in ``alp_jax.config.sizes``, because a configuration never loads jax.
      parts: (model, log-mel frames) -> what a plan by layers adds up; None: only the whole step can be planned.
    """

    kind: str
    settings: type
    make: Callable[..., nnx.Module]
    width: Callable[[Any], int]
    frames: Callable[[Any, int], int]
    cost: Callable[[Any, int], Cost]
    export: str | None = None
    section: str = "encoder_settings"
    presets: Mapping[str, ModelConfig] = dataclasses.field(default_factory=dict)
    parts: Callable[[ModelConfig, int], Iterable[EncoderPart]] | None = None
