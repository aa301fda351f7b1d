"""Averages of the parameters over the run, which evaluate better than the last parameters."""

from typing import Any

import jax
import jax.numpy as jnp

from alp_jax.config.schema import TrainConfig
from alp_jax.core.names import choose

KINDS = ("none", "running", "ema")


def averages(config: TrainConfig) -> bool:
    """Whether the state holds an average.

    Raises:
      UserError: an unknown kind.
    """
    return choose(config.average, KINDS, "config.train.average") != "none"


def update_average(config: TrainConfig, average: Any, params: Any, step: jax.Array) -> Any:
    """The average after ``step`` (counted from 1) steps that led to ``params``.

    ``running`` is the reference's mean over every ``average_period``-th step, in float32 where that keeps float64;
    ``ema`` forgets: its decay grows to ``ema_decay``, so that the start of a run does not linger.
    """
    step = jnp.asarray(step, jnp.float32)
    if config.average == "ema":
        return _mix(average, params, 1.0 - jnp.minimum(config.ema_decay, step / (step + 9.0)))
    due = step % config.average_period == 0
    weight = config.average_period / step
    return jax.lax.cond(due, lambda: _mix(average, params, weight), lambda: average)


def range_average(first: Any, first_step: int, last: Any, last_step: int) -> Any:
    """The mean over the steps after ``first_step`` up to ``last_step``, from the running averages at both."""
    share = last_step / (last_step - first_step)
    return jax.tree.map(lambda a, b: b * share - a * (share - 1.0), first, last)


def _mix(average: Any, params: Any, weight: jax.Array) -> Any:
    return jax.tree.map(lambda a, p: (a + (p - a) * weight).astype(a.dtype), average, params)
