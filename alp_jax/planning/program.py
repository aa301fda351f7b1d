"""The real training step with shapes in place of arrays: what is compiled for devices that are not there."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from alp_jax.config.schema import RunConfig
from alp_jax.config.schema.model import TAGGER
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError
from alp_jax.data.order.forecast import ShapeUse, shape_uses
from alp_jax.models.accounting import parameters
from alp_jax.objectives.base import SpecialTokens
from alp_jax.objectives.registry import check_objective, make_objective, sides_of
from alp_jax.optim.optimizer import averages, make_optimizer
from alp_jax.parallel.mesh import batch_shards
from alp_jax.train.build import make_model
from alp_jax.train.host import BatchShapes, batch_shapes
from alp_jax.train.state import abstract_state, state_maker
from alp_jax.train.step import make_train_step

TOKENS = SpecialTokens(pad=0, bos=2, eos=3, mask=4)  # ids change no shape


@dataclasses.dataclass(frozen=True)
class Program:
    """A traced step: ``step`` is jitted and takes ``state`` and ``batch(bucket)``, all of them shapes with shardings.

    ``make`` makes a state, see ``alp_jax.train.state``.
    """

    step: Callable
    make: Callable
    state: Any
    mesh: Mesh
    config: RunConfig

    @property
    def parameters(self) -> int:
        """The number of trained parameters."""
        return parameters(self.state["params"])

    def batch(self, bucket: ShapeUse) -> BatchShapes:
        """The arrays that the loop hands to the step for ``bucket``."""
        size = bucket.clips, round(bucket.seconds * SAMPLE_RATE), bucket.tokens
        return batch_shapes(self.config, self.mesh, size)


def buckets(config: RunConfig, mesh: Mesh, seconds: float | None = None) -> list[ShapeUse]:
    """The batch shapes of ``config`` on its data set or, where that is not here, as the settings name them.

    Args:
      seconds: takes only those of that length.

    Raises:
      UserError: no such bucket, buckets that depend on data that is not here, or a batch that does not divide over the
        mesh.
    """
    shapes = [one for one in shape_uses(config.data, seed=config.seed, steps=config.train.steps) if one.share]
    if not shapes:
        raise UserError(
            f"config.data.bucket_seconds is empty, so buckets depend on the data, and {config.data.path} is not here: "
            "name them for a plan, or the data set by config.data.path"
        )
    planned = [one for one in shapes if seconds is None or math.isclose(one.seconds, seconds, abs_tol=5e-4)]
    if not planned:
        known = ", ".join(f"{length:g}" for length in dict.fromkeys(one.seconds for one in shapes))
        raise UserError(f"--bucket {seconds:g} is none of the lengths of batches: {known}")
    for bucket in planned:
        if bucket.clips % batch_shards(mesh):
            raise UserError(
                f"batches of {bucket.clips} clips do not divide over {batch_shards(mesh)} devices: "
                f"set config.data.clips_multiple = {config.data.clips_multiple} to a multiple of {batch_shards(mesh)}"
            )
    return planned


def make_program(config: RunConfig, mesh: Mesh) -> Program:
    """Model, objective, optimiser and step as the loop builds them, without data, tokenizer or arrays.

    Raises:
      UserError: settings that do not fit together.
    """
    check_objective(config)
    if TAGGER in sides_of(config.objective) and not config.data.tags:
        raise UserError(
            f"config.objective.name={config.objective.name} needs config.data.tags: a list made by 'alp tags'"
        )
    init, apply = make_model(config)
    optimizer = make_optimizer(config.optim, config.train.steps)
    make = state_maker(init, apply, optimizer, averages(config.train))
    state = abstract_state(make, mesh)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    step = make_train_step(apply, make_objective(config.objective, TOKENS, mesh), optimizer, config, mesh, shardings)
    return Program(step, make, state, mesh, config)


def state_bytes(state: Any) -> int:
    """Bytes of the state on one device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)
    )
