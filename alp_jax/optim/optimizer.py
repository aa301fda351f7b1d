"""The optimiser that a configuration names."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from alp_jax.config.schema import OptimConfig
from alp_jax.core.errors import UserError
from alp_jax.core.names import check_positive, choose
from alp_jax.optim.scaled_adam import Settings, scaled_adam
from alp_jax.optim.schedules import learning_rate
from alp_jax.optim.stacks import global_norm, in_stacks

OPTIMIZERS = ("adamw", "scaled_adam")
_DECAYED = ("kernel", "embedding")


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
        settings = Settings(
            config.b1,
            config.b2,
            config.eps,
            scalar_lr_scale=config.scalar_lr_scale,
            size_period=config.size_period,
            clipping_scale=config.clipping_scale,
            clipping_period=config.clipping_period,
        )
        return scaled_adam(rate, settings, lr_scales=lambda params: lr_scales(params, rules))
    clip = [optax.stateless(partial(_clip, config.clip_norm))] if config.clip_norm > 0 else []
    adamw = optax.adamw(rate, config.b1, config.b2, config.eps, weight_decay=config.weight_decay, mask=decay_mask)
    adamw = optax.chain(*clip, in_stacks(adamw))
    if not rules:
        return adamw
    # a frozen parameter has no gradient that could count in the norm of the others
    learn = optax.stateless(lambda grads, _: _scale(grads, rules, lambda g, scale: g if scale else jnp.zeros_like(g)))
    slower = optax.stateless(lambda updates, _: _scale(updates, rules, lambda u, scale: u * scale))
    return optax.chain(learn, adamw, slower)


def updates_taken(opt_state: Any) -> jax.Array:
    """How many updates an optimiser of ``make_optimizer`` has taken, int32: skipped steps do not count."""
    return optax.tree_utils.tree_get_all_with_path(opt_state, "count")[0][1]


def decay_mask(params: Any) -> Any:
    """True for matrices and kernels, False for biases, scales and norms, of parameters as ``Stacks`` joins them."""

    def decayed(path, _):
        name = path[1:2] if jax.tree_util.keystr(path[:1], simple=True) == "stacked" else path[-1:]
        return jax.tree_util.keystr(name, simple=True) in _DECAYED

    return jax.tree_util.tree_map_with_path(decayed, params)


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
    """The factor on the learning rate of every leaf: those of all names on its path, multiplied.

    Raises:
      UserError: a name that is on no path.
    """
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in _leaves(params)]
    for rule in rules:
        if not any(_below(name, rule) for name in names):
            raise UserError(f"config.optim.lr_scale: the model has no parameter below {rule}")
    return [math.prod(factor for rule, factor in rules.items() if _below(name, rule)) for name in names]


def _clip(limit: float, grads: Any, _) -> Any:
    """``grads``, scaled down to a norm of ``limit`` where it is larger."""
    factor = limit / jnp.maximum(global_norm(grads), limit)
    return jax.tree.map(lambda g: g * factor, grads)


def _below(name: str, rule: str) -> bool:
    return name == rule or name.startswith(f"{rule}/")


def _leaves(tree: Any):
    return jax.tree_util.tree_leaves_with_path(tree)


def _scale(tree: Any, rules: dict[str, float], how: Callable[[jax.Array, float], jax.Array]) -> Any:
    """``how(leaf, its factor)`` of every leaf."""
    leaves, treedef = jax.tree.flatten(tree)
    return treedef.unflatten([how(leaf, scale) for leaf, scale in zip(leaves, lr_scales(tree, rules), strict=True)])
