"""The optimiser that a configuration names, its learning rate schedule, and running averages of the parameters.

Learning rates: warm-up with cosine decay, and the three Eden schedules of the reference's trainer (Yao et al.,
"Zipformer", ICLR 2024). The reference counts an update before it sets its rate, so the first update (step 0 here) is
batch 1 there. Averaged parameters evaluate better than the last ones.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from alp_jax.config.rules import warmup_steps
from alp_jax.config.schema import OptimConfig, TrainConfig
from alp_jax.core.errors import UserError
from alp_jax.core.names import check_positive, choose
from alp_jax.optim.scaled_adam import ScaledAdamSettings, scaled_adam
from alp_jax.optim.stacks import clip_to_norm, decay_mask, in_stacks

SCHEDULES = ("cosine", "eden", "eden2", "eden3")


def _decay(count, scale, exponent):
    return ((count**2 + scale**2) / scale**2) ** exponent


def eden(config: OptimConfig, batch, epoch=0.0):
    """The rate after ``batch`` updates in ``epoch``; ``eden3`` takes the epoch from ``steps_per_epoch`` instead.

    ``eden2`` has no epochs and falls with the square root of the batch count.
    """
    warmup = config.warmup_start + (1.0 - config.warmup_start) * jnp.minimum(batch / max(config.warmup_steps, 1), 1.0)
    if config.schedule == "eden2":
        return config.lr * _decay(batch, config.lr_batches, -0.5) * warmup
    if config.schedule == "eden3":
        epoch = batch / config.steps_per_epoch
    return config.lr * _decay(batch, config.lr_batches, -0.25) * _decay(epoch, config.lr_epochs, -0.25) * warmup


def learning_rate(config: OptimConfig, steps: int) -> optax.Schedule:
    """The learning rate at each step of a run of ``steps`` steps; the warm-up is no longer than the run.

    Raises:
      UserError: an unknown schedule, or one whose decay scale (``lr_batches``, ``lr_epochs``) is not positive.
    """
    choose(config.schedule, SCHEDULES, "config.optim.schedule")
    config = dataclasses.replace(config, warmup_steps=warmup_steps(config, steps))
    if config.schedule != "cosine":
        check_positive("config.optim", lr_batches=config.lr_batches)
        if config.schedule == "eden2":
            return lambda step: eden(config, step + 1.0)
        check_positive("config.optim", lr_epochs=config.lr_epochs, steps_per_epoch=config.steps_per_epoch)
        return lambda step: eden(config, step + 1.0, jnp.floor(step / config.steps_per_epoch))
    # at least one step after the warm-up: optax refuses a decay of length 0
    last, lowest = max(steps, config.warmup_steps + 1), config.lr * config.final_lr_fraction
    return optax.warmup_cosine_decay_schedule(0.0, config.lr, config.warmup_steps, last, lowest)


OPTIMIZERS = ("adamw", "scaled_adam")


def make_optimizer(config: OptimConfig, steps: int) -> optax.GradientTransformation:
    """The optimiser for a run of ``steps`` steps.

    Raises:
      UserError: an unknown optimiser or schedule, a malformed ``lr_scale``, or a number out of its range.
    """
    choose(config.name, OPTIMIZERS, "config.optim.name")
    rules, rate = parse_lr_scale(config.lr_scale), learning_rate(config, steps)
    if config.name == "scaled_adam":
        check_positive("config.optim", size_period=config.size_period, clipping_period=config.clipping_period)
        if config.clipping_scale < 0:
            raise UserError(f"config.optim.clipping_scale is {config.clipping_scale}; 0 turns clipping off")
        settings = ScaledAdamSettings(
            config.b1,
            config.b2,
            config.eps,
            scalar_lr_scale=config.scalar_lr_scale,
            size_period=config.size_period,
            clipping_scale=config.clipping_scale,
            clipping_period=config.clipping_period,
        )
        return scaled_adam(rate, settings, lr_scales=lambda params: lr_scales(params, rules))
    # The norm is limited before Adam sees the gradients: limited behind it, a spike would already be in its moments.
    clip = [optax.stateless(partial(clip_to_norm, config.clip_norm))] if config.clip_norm > 0 else []
    adamw = optax.adamw(rate, config.b1, config.b2, config.eps, weight_decay=config.weight_decay, mask=decay_mask)
    adamw = optax.chain(*clip, in_stacks(adamw))
    if not rules:
        return adamw
    # The order matters: gradients of frozen parameters are zeroed before the norm is taken, or they would clip the
    # others; updates are scaled after weight decay has been added, so that it is slowed or frozen as well.
    learn = optax.stateless(lambda grads, _: _scale(grads, rules, lambda g, scale: g if scale else jnp.zeros_like(g)))
    slower = optax.stateless(lambda updates, _: _scale(updates, rules, lambda u, scale: u * scale))
    return optax.chain(learn, adamw, slower)


def parse_lr_scale(text: str) -> dict[str, float]:
    """``NAME=FACTOR,...`` as a dictionary.

    Raises:
      UserError: an entry that is not a name and a number of at least 0.
    """
    rules = {}
    for entry in filter(None, text.split(",")):
        name, _, factor = entry.partition("=")
        try:
            rules[name] = float(factor)
        except ValueError:
            rules[name] = math.nan
        if not name or not 0 <= rules[name] < math.inf:
            raise UserError(f"config.optim.lr_scale: {entry!r} is not NAME=FACTOR with a factor of 0 or more")
    return rules


def lr_scales(params: Any, rules: dict[str, float]) -> list[float]:
    """The factor on every leaf's learning rate: the product of all ``rules`` whose name begins its path.

    Raises:
      UserError: a name that no path begins with.
    """
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in _leaves(params)]
    for rule in rules:
        if not any(_below(name, rule) for name in names):
            raise UserError(f"config.optim.lr_scale: the model has no parameter under {rule}")
    return [math.prod(factor for rule, factor in rules.items() if _below(name, rule)) for name in names]


def _below(name: str, rule: str) -> bool:
    return name == rule or name.startswith(f"{rule}/")


def _leaves(tree: Any):
    return jax.tree_util.tree_leaves_with_path(tree)


def _scale(tree: Any, rules: dict[str, float], how: Callable[[jax.Array, float], jax.Array]) -> Any:
    """Applies ``how(leaf, factor)`` to every leaf."""
    leaves, treedef = jax.tree.flatten(tree)
    return treedef.unflatten([how(leaf, scale) for leaf, scale in zip(leaves, lr_scales(tree, rules), strict=True)])


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
    """The average after ``step`` steps (counted from 1), which led to ``params``.

    ``running`` is the reference's mean over every ``average_period``-th step, in float32 where the reference keeps
    float64: after 1500 updates the two differ by 1e-6 of the largest value, and by 1.3e-5 for a range over the last 20
    of them. Within the first period it follows the parameters, so that a short run is not evaluated at its start.
    ``ema`` is an exponential moving average whose decay grows to ``ema_decay``, so that the start does not linger.
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
    # both averages began at step 0, so the share of the earlier one is subtracted from the later one
    return jax.tree.map(lambda a, b: b * share - a * (share - 1.0), first, last)


def _mix(average: Any, params: Any, weight: jax.Array) -> Any:
    # in this form, an average that already equals the parameters stays exactly as it is
    return jax.tree.map(lambda a, p: (a + (p - a) * weight).astype(a.dtype), average, params)
