"""The regularisers as modules, so that each place in the encoder states its own limits."""

import jax
from flax import nnx

from alp_jax.models.gradients import balance, limit_values, mean_of_positive_share, rms_of_mean_abs, whiten
from alp_jax.models.schedule import NEVER, Schedule, constant, line
from alp_jax.models.training import Sites, Training

BALANCER_PROB = line(0.5, 0.125, 8000)
LIMIT_PROB = constant(0.6)


def whitening_limit(limit: float, ratio: float = 2.0) -> Schedule:
    """A limit that grows ``ratio`` times over 20,000 batches."""
    return line(limit, ratio * limit, 20000)


def _schedule(value: float | Schedule) -> Schedule:
    return value if isinstance(value, Schedule) else constant(value)


class Balancer(nnx.Module):
    """Keeps the share of positive values and the mean absolute value of every channel within limits."""

    own_sites = Sites(scalars=1)

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

    def __call__(self, x: jax.Array, train: Training | None) -> jax.Array:
        """``x`` itself; channels are the last axis."""
        if train is None:
            return x
        mean_limits = tuple(mean_of_positive_share(train.value(s)) for s in (self.min_positive, self.max_positive))
        rms_limits = tuple(rms_of_mean_abs(train.value(s)) for s in (self.min_abs, self.max_abs))
        return balance(x, train.draw(), train.value(self.prob), mean_limits, rms_limits, self.grad_scale)


class Whiten(nnx.Module):
    """Keeps the covariance of channels, within ``groups`` of them, from collapsing to few directions."""

    own_sites = Sites(scalars=1, whitenings=1)

    def __init__(self, limit: float | Schedule, grad_scale: float = 0.01, groups: int = 1):
        self.limit, self.grad_scale, self.groups = _schedule(limit), grad_scale, groups
        self.probs = (0.025, 0.25)  # after a measurement below the limit, and after one beyond it

    def __call__(self, x: jax.Array, train: Training | None) -> jax.Array:
        """``x`` itself; channels are the last axis."""
        if train is None:
            return x
        settings = (self.groups, self.probs, self.grad_scale)
        return whiten(x, train.whitening(), train.draw(), train.value(self.limit), settings)


class ValueLimit(nnx.Module):
    """Turns gradients that would carry a parameter further out of its range."""

    own_sites = Sites(scalars=1)

    def __init__(self, low: float | Schedule, high: float | Schedule):
        self.low, self.high, self.prob = _schedule(low), _schedule(high), LIMIT_PROB

    def __call__(self, parameter: jax.Array, train: Training | None) -> jax.Array:
        """``parameter`` itself."""
        if train is None:
            return parameter
        low, high = train.value(self.low), train.value(self.high)
        return limit_values(parameter, train.draw(), train.value(self.prob), low, high)


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
