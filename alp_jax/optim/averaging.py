"""Averages of the parameters over the run, which evaluate better than the last parameters."""

from typing import Any

import jax
import jax.numpy as jnp

from alp_jax.config.schema import TrainConfig
from alp_jax.core.errors import UserError
from alp_jax.core.names import check_positive, choose

KINDS = ("none", "running", "ema")


def averages(config: TrainConfig) -> bool:
    """Whether the state holds an average.

    Raises:
      UserError: an unknown kind, or a period or decay out of its range.
    """
    kind = choose(config.average, KINDS, "config.train.average")
    if kind == "running":
        check_positive("config.train", average_period=config.average_period)
    if kind == "ema" and not 0 <= config.ema_decay < 1:
        raise UserError(f"config.train.ema_decay is {config.ema_decay}; it must be at least 0 and below 1")
    return kind != "none"


def update_average(config: TrainConfig, average: Any, params: Any, step: jax.Array) -> Any:
    """The average after ``step`` (counted from 1) steps that led to ``params``.

    ``running`` is the reference's mean over every ``average_period``-th step, but in float32 where that keeps float64:
    after 1500 updates 1e-6 of the largest value apart, a range over the last 20 of them 1.3e-5. Within the first
    period it follows the parameters, so that a short run is not evaluated where it began.
    ``ema`` forgets: its decay grows to ``ema_decay``, so that the start of a run does not linger.
    """
    step = jnp.asarray(step, jnp.float32)
    if config.average == "ema":
        return _mix(average, params, 1.0 - jnp.minimum(config.ema_decay, step / (step + 9.0)))
    due = (step % config.average_period == 0) | (step < config.average_period)
    weight = jnp.minimum(config.average_period / step, 1.0)
    return jax.lax.cond(due, lambda: _mix(average, params, weight), lambda: average)


def range_average(first: Any, first_step: int, last: Any, last_step: int) -> Any:
    """The mean over the steps after ``first_step`` up to ``last_step``, from the running averages at both."""
    share = last_step / (last_step - first_step)
    return jax.tree.map(lambda a, b: b * share - a * (share - 1.0), first, last)


def _mix(average: Any, params: Any, weight: jax.Array) -> Any:
    return jax.tree.map(lambda a, p: (a + (p - a) * weight).astype(a.dtype), average, params)
