"""What only training needs: schedules, the random draws of a step, and the regularisers as modules.

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

from alp_jax.models.gradients import balance, limit_values, mean_of_positive_share, rms_of_mean_abs, whiten
from alp_jax.parallel.mesh import constrain


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The reference's ScheduledFloat: straight lines through ``points`` of (batch count, value).

    Raises:
      ValueError: no point, or batch counts that do not increase.
    """

    points: tuple[tuple[float, float], ...]

    def __post_init__(self):
        counts = [count for count, _ in self.points]
        if not counts or any(later <= earlier for earlier, later in itertools.pairwise(counts)):
            raise ValueError(f"a schedule needs points with increasing batch counts, not {self.points}")

    def __call__(self, batch_count: jax.Array | float) -> jax.Array | float:
        """The value at ``batch_count``: a sum of clipped ramps; a plain number where it never changes."""
        value = self.points[0][1]
        for (begin, low), (end, high) in itertools.pairwise(self.points):
            value += (high - low) * jnp.clip((batch_count - begin) / (end - begin), 0.0, 1.0)
        return value

    @property
    def never(self) -> bool:
        """True where the value is zero throughout, so that what it governs can be left out of the program."""
        return all(value == 0.0 for _, value in self.points)


def constant(value: float) -> Schedule:
    """The same value throughout."""
    return Schedule(((0.0, value),))


NEVER = constant(0.0)


def line(start: float, end: float, batches: float) -> Schedule:
    """From ``start`` at batch 0 to ``end`` at ``batches``."""
    return Schedule(((0.0, start), (float(batches), end)))


def schedules_of(module: nnx.Module) -> dict[str, Schedule]:
    """Every schedule in ``module`` by its path, ``encoders/0/layers/1/bypass/skip_rate``."""
    schedules = {}
    for path, part in nnx.iter_modules(module):
        for name, value in vars(part).items():
            if isinstance(value, Schedule):
                schedules["/".join(map(str, (*path, name)))] = value
    return schedules


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
class DrawCounts:
    """How many scalars, scalars per clip, whitening states, and scalars per clip and channel a call takes."""

    scalars: int = 0
    clips: int = 0
    whitenings: int = 0
    channels: int = 0

    def __add__(self, other: "DrawCounts") -> "DrawCounts":
        return DrawCounts(*map(operator.add, dataclasses.astuple(self), dataclasses.astuple(other)))

    def __mul__(self, times: int) -> "DrawCounts":
        return DrawCounts(*(number * times for number in dataclasses.astuple(self)))


def count_draws(module: nnx.Module) -> DrawCounts:
    """What ``module`` takes with everything in it, by the ``own_draws`` of each module."""
    return sum((getattr(part, "own_draws", DrawCounts()) for _, part in nnx.iter_modules(module)), DrawCounts())


class Draws:
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
    def sample(cls, inputs: TrainInputs, draw_counts: DrawCounts, num_clips: int) -> "Draws":
        """As many draws as ``draw_counts`` says."""
        # Four calls of the generator for the whole step. The values in a pool depend on its size: an encoder with one
        # draw more or less changes all draws of that kind, and with them the losses of a seeded run.
        scalar_key, clip_key, channel_key, mask_key = jax.random.split(inputs.key, 4)
        return cls(
            mask_key,
            inputs.batch_count,
            constrain(jax.random.uniform(scalar_key, (draw_counts.scalars,)), "draws"),
            constrain(jax.random.uniform(clip_key, (draw_counts.clips, num_clips)), "draws", "batch"),
            constrain(jax.random.uniform(channel_key, (num_clips, draw_counts.channels)), "batch", "draws"),
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

    def remaining(self) -> DrawCounts:
        """What is left to take: nothing, once the module that was counted has run."""
        pools = (self._scalars, self._clips, self._whitening)
        return DrawCounts(*(sum(1 for _ in pool) for pool in pools), self._channels_BC.shape[1] - self._channels_taken)


def keep_clips(x: jax.Array, rate: Schedule, draws: Draws | None) -> jax.Array:
    """Zeroes whole clips of x_B... with probability ``rate``; the others are not rescaled."""
    return x if draws is None else x * clip_mask(x, rate, draws)


def clip_mask(x: jax.Array, rate: Schedule, draws: Draws) -> jax.Array:
    """1 for clips that are kept and 0 for others, shaped to multiply x_B..."""
    kept_B = draws.draw_clips() > draws.value(rate)
    return kept_B.reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype)


def shared_dropout(x_BTD: jax.Array, rate: Schedule, draws: Draws | None) -> jax.Array:
    """Dropout whose mask is shared by all frames of a clip."""
    if draws is None:
        return x_BTD
    now = draws.value(rate)
    # rescaled by what is kept, unlike clips that are skipped: the reference does so for dropout alone
    mask_B1D = draws.draw_channels(x_BTD.shape[2])[:, None] > now
    return x_BTD * (mask_B1D / (1.0 - now)).astype(x_BTD.dtype)


BALANCER_PROB = line(0.5, 0.125, 8000)
LIMIT_PROB = constant(0.6)


def whitening_limit(limit: float, ratio: float = 2.0) -> Schedule:
    """A limit that grows ``ratio`` times over 20,000 batches."""
    return line(limit, ratio * limit, 20000)


def _schedule(value: float | Schedule) -> Schedule:
    return value if isinstance(value, Schedule) else constant(value)


class Balancer(nnx.Module):
    """Keeps the share of positive values and the mean absolute value of every channel within limits."""

    own_draws = DrawCounts(scalars=1)

    def __init__(
        self,
        *,
        min_positive: float | Schedule = 0.05,
        max_positive: float | Schedule = 0.95,
        min_abs: float | Schedule = 0.2,
        max_abs: float | Schedule = 100.0,
        prob: float | Schedule = BALANCER_PROB,
        grad_scale: float = 0.04,
    ):
        self.min_positive, self.max_positive = _schedule(min_positive), _schedule(max_positive)
        self.min_abs, self.max_abs, self.prob = _schedule(min_abs), _schedule(max_abs), _schedule(prob)
        self.grad_scale = grad_scale

    def __call__(self, x: jax.Array, draws: Draws | None) -> jax.Array:
        """``x`` itself; channels are the last axis."""
        if draws is None:
            return x
        # the share of positive values is limited through the mean in standard deviations, as for a normal distribution
        mean_limits = tuple(mean_of_positive_share(draws.value(s)) for s in (self.min_positive, self.max_positive))
        rms_limits = tuple(rms_of_mean_abs(draws.value(s)) for s in (self.min_abs, self.max_abs))
        return balance(x, draws.draw(), draws.value(self.prob), mean_limits, rms_limits, self.grad_scale)


class Whiten(nnx.Module):
    """Keeps the covariance of channels, within ``groups`` of them, from collapsing to few directions."""

    own_draws = DrawCounts(scalars=1, whitenings=1)

    def __init__(self, limit: float | Schedule, grad_scale: float = 0.01, groups: int = 1):
        self.limit, self.grad_scale, self.groups = _schedule(limit), grad_scale, groups
        self.probs = (0.025, 0.25)  # after a measurement below the limit, and after one beyond it

    def __call__(self, x: jax.Array, draws: Draws | None) -> jax.Array:
        """``x`` itself; channels are the last axis."""
        if draws is None:
            return x
        settings = (self.groups, self.probs, self.grad_scale)
        return whiten(x, draws.whitening(), draws.draw(), draws.value(self.limit), settings)


class ValueLimit(nnx.Module):
    """Flips gradients that would carry a parameter further out of its range."""

    own_draws = DrawCounts(scalars=1)

    def __init__(self, low: float | Schedule, high: float | Schedule):
        self.low, self.high, self.prob = _schedule(low), _schedule(high), LIMIT_PROB

    def __call__(self, parameter: jax.Array, draws: Draws | None) -> jax.Array:
        """``parameter`` itself."""
        if draws is None:
            return parameter
        low, high = draws.value(self.low), draws.value(self.high)
        return limit_values(parameter, draws.draw(), draws.value(self.prob), low, high)


def make_certain(module: nnx.Module, probability: float) -> nnx.Module:
    """Gives every gradient-only part of ``module`` one probability and turns every random drop off (``*_rate``).

    With probability 0 or 1 a training pass is deterministic, which comparisons with other implementations need.
    """
    for _, part in nnx.iter_modules(module):
        if isinstance(part, Balancer | ValueLimit):
            part.prob = constant(probability)
        elif isinstance(part, Whiten):
            part.probs = (probability, probability)
        for name, value in list(vars(part).items()):
            if name.endswith("_rate"):
                setattr(part, name, NEVER if isinstance(value, Schedule) else 0.0)
            elif name == "penalty_prob":
                setattr(part, name, constant(probability))
    return module
