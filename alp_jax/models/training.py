"""What a training step hands to an encoder beside its input: the batch count, random draws and whitening state.

An encoder counts beforehand what it will draw, draws it all at once, and its modules take from the pools in the order
in which they are called. That costs a few calls of the generator instead of hundreds, and nothing is drawn inside a
rematerialised layer.
"""

import dataclasses
import itertools
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from alp_jax.models.schedule import Schedule
from alp_jax.parallel.activations import constrain


class TrainInputs(NamedTuple):
    """Randomness and state of one training step.

    Fields:
      key: for every random decision of the step.
      batch_count: float32 scalar that the schedules read.
      whitening_N: float32, one per whitening site of the encoder: 1.0 where its last measurement was at or above the
        limit (also at the start). Its "gradient" is the change to it.
    """

    key: jax.Array
    batch_count: jax.Array
    whitening_N: jax.Array


@dataclasses.dataclass(frozen=True)
class Sites:
    """How many scalars, scalars per clip, whitening states, and scalars per clip and channel a call takes."""

    scalars: int = 0
    clips: int = 0
    whitenings: int = 0
    channels: int = 0

    def __add__(self, other: "Sites") -> "Sites":
        return Sites(*map(operator.add, dataclasses.astuple(self), dataclasses.astuple(other)))

    def __mul__(self, times: int) -> "Sites":
        return Sites(*(number * times for number in dataclasses.astuple(self)))


def sites_of(module: nnx.Module) -> Sites:
    """What ``module`` takes with everything in it, by the ``own_sites`` of each module."""
    return sum((getattr(part, "own_sites", Sites()) for _, part in nnx.iter_modules(module)), Sites())


class Training:
    """Pools of draws for one forward pass.

    Args:
      key: for masks over frames.
      batch_count: what the schedules read.
      scalars_N: uniform draws, one per decision for the whole batch.
      clips_NB: uniform draws per clip, one row per decision.
      channels_BC: uniform draws per clip and channel, of all dropouts one after the other.
      whitening_N: see ``TrainInputs``.
    """

    def __init__(self, key, batch_count, scalars_N, clips_NB, channels_BC, whitening_N):
        self._key, self.batch_count, self._masks = key, batch_count, itertools.count()
        self._channels_BC, self._channels_taken = channels_BC, 0
        self._scalars, self._clips, self._whitening = (iter(jnp.unstack(x)) for x in (scalars_N, clips_NB, whitening_N))

    @classmethod
    def drawn(cls, inputs: TrainInputs, sites: Sites, num_clips: int) -> "Training":
        """Draws for ``sites``."""
        scalar_key, clip_key, channel_key, mask_key = jax.random.split(inputs.key, 4)
        return cls(
            mask_key,
            inputs.batch_count,
            constrain(jax.random.uniform(scalar_key, (sites.scalars,)), "draws"),
            constrain(jax.random.uniform(clip_key, (sites.clips, num_clips)), "draws", "batch"),
            constrain(jax.random.uniform(channel_key, (num_clips, sites.channels)), "batch", "draws"),
            inputs.whitening_N,
        )

    def value(self, schedule: Schedule) -> jax.Array:
        """The schedule's value now."""
        return schedule(self.batch_count)

    def draw(self) -> jax.Array:
        """The next scalar draw."""
        return next(self._scalars)

    def draw_clips(self) -> jax.Array:
        """The next draw_B."""
        return next(self._clips)

    def whitening(self) -> jax.Array:
        """The next whitening state."""
        return next(self._whitening)

    def draw_channels(self, width: int) -> jax.Array:
        """The next draw_BC with C = ``width``."""
        begin, self._channels_taken = self._channels_taken, self._channels_taken + width
        return self._channels_BC[:, begin : begin + width]

    def draw_mask(self, shape: tuple[int, ...]) -> jax.Array:
        """Uniform draws of a shape that depends on the length of the clips."""
        return jax.random.uniform(jax.random.fold_in(self._key, next(self._masks)), shape)

    def left(self) -> Sites:
        """What has not been taken: nothing, once the module that was counted has run."""
        pools = (self._scalars, self._clips, self._whitening)
        return Sites(*(sum(1 for _ in pool) for pool in pools), self._channels_BC.shape[1] - self._channels_taken)


def keep_clips(x: jax.Array, rate: Schedule, train: Training | None) -> jax.Array:
    """Zeroes whole clips of x_B... with probability ``rate``; what stays is not rescaled."""
    return x if train is None else x * clip_mask(x, rate, train)


def clip_mask(x: jax.Array, rate: Schedule, train: Training) -> jax.Array:
    """1 for clips that are kept and 0 for others, shaped to multiply x_B..."""
    kept_B = train.draw_clips() > train.value(rate)
    return kept_B.reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype)


def shared_dropout(x_BTD: jax.Array, rate: Schedule, train: Training | None) -> jax.Array:
    """Dropout whose mask is shared by all frames of a clip."""
    if train is None:
        return x_BTD
    now = train.value(rate)
    mask_B1D = train.draw_channels(x_BTD.shape[2])[:, None] > now
    return x_BTD * (mask_B1D / (1.0 - now)).astype(x_BTD.dtype)
