"""What a run computes and stores, from its configuration and, if it is on this machine, its data set."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax

from alp_jax.config import ConfigError, RunConfig, resolve
from alp_jax.config.schema import TrainConfig
from alp_jax.core.errors import UserError
from alp_jax.core.hashing import fingerprint
from alp_jax.data.order.forecast import shape_uses
from alp_jax.models.accounting import train_flops
from alp_jax.objectives.registry import check_objective, sides_of
from alp_jax.optim.optimizer import averages, make_optimizer
from alp_jax.planning.inputs import missing_inputs
from alp_jax.train.build import make_model
from alp_jax.train.state import state_maker, state_shapes

TYPICAL_SECONDS = 10.0  # length of a clip, where buckets depend on data that is not here


def run_costs(runs: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For every run, the ``flops`` of its training, the ``bytes`` of the checkpoints that it keeps, ``missing`` inputs.

    Args:
      runs: name -> settings, resolved.

    Raises:
      UserError: settings that do not fit together, or more pairs than the data set has; the run is named.
    """
    jax.config.update("jax_platforms", "cpu")  # shapes only; devices are left to the runs
    costs, state_bytes, seen = {}, functools.lru_cache(None)(_state_bytes), {}
    for name, settings in runs.items():
        config = resolve(settings)
        try:
            check_objective(config)
            size = state_bytes(_state_key(config)) * checkpoints_kept(config.train)
            key = fingerprint({**settings, "seed": 0, "init": "", "optim": {}})  # what the operations do not depend on
            if key not in seen:
                seen[key] = _flops(config)
        except (ConfigError, UserError) as error:
            raise UserError(f"{name}: {error}") from None
        costs[name] = {"flops": seen[key], "bytes": float(size), "missing": missing_inputs(config)}
    return costs


def _state_key(config: RunConfig) -> RunConfig:
    """The part of a configuration on which the size of a checkpoint depends; equal ones are computed once."""
    train = TrainConfig(average=config.train.average)
    return RunConfig(
        model=config.model, features=config.features, objective=config.objective, optim=config.optim, train=train
    )


def _state_bytes(config: RunConfig) -> int:
    optimizer = make_optimizer(config.optim, config.train.steps)
    return checkpoint_bytes(state_shapes(state_maker(*make_model(config), optimizer, averages(config.train))))


def checkpoint_bytes(state: Any) -> int:
    """Bytes of a checkpoint of ``state`` (arrays or their shapes), whatever devices its arrays are split over."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def checkpoints_kept(train: TrainConfig) -> int:
    """Number of checkpoints that stay when a run has ended (those saved by minutes cannot be counted)."""
    written = max(1, -(-train.steps // max(1, train.save_every)))
    extra = train.steps // train.keep_every if train.keep_every else 0
    return min(written, train.keep + extra + train.keep_best)


def _flops(config: RunConfig) -> float:
    """Operations of all steps of a run, padding included."""
    data, steps = config.data, config.train.steps
    if not steps:
        return 0.0
    shapes = shape_uses(data, seed=config.seed, steps=steps)
    if not shapes:
        shapes = shape_uses(dataclasses.replace(data, bucket_seconds=(TYPICAL_SECONDS,)), seed=config.seed, steps=steps)
    sides = sides_of(config.objective)
    return steps * sum(
        one.share * one.clips * train_flops(config.model, sides, one.seconds, one.tokens) for one in shapes
    )
