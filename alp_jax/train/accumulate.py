"""Gradients of a batch that goes through the model in parts, equal to those of the whole batch.

A contrastive loss hangs on all embeddings of a batch at once, so summing the losses of its parts would compare fewer
pairs. Instead all parts go through the model without gradients, the loss is differentiated by their embeddings, and
every part goes through once more to bring its share of that gradient to the parameters (Gao et al. 2021, "Scaling Deep
Contrastive Learning Batch Size under Memory Limited Setup"). Memory for activations is that of one part.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from alp_jax.core.errors import UserError
from alp_jax.objectives.base import Objective, Reduced
from alp_jax.parallel.mesh import BATCH_AXES, batch_shards


def value_and_grad(reduced: Callable[..., Reduced], objective: Objective, parts: int, mesh: Mesh) -> Callable:
    """What differentiates the loss of a batch, ``parts`` parts of it one after the other.

    Args:
      reduced: (params, whitening, rows, key) -> ``Reduced``; ``rows`` is any part of the rows handed to the result.
      objective: whose ``combine`` makes the loss.
      parts: in how many a batch is cut; every part has a ``key`` of its own, and what it measures for ``whitening`` is
        averaged.
      mesh: every device cuts its own rows.

    Returns:
      (params, whitening, rows, inputs, batch, key) -> ((loss, metrics), (grads, whitening_change)); calling it raises
      UserError for a batch that cannot be cut so.
    """
    if parts == 1:

        def whole(params, whitening, rows, inputs, batch, key):
            def loss(params, whitening):
                return objective.combine(reduced(params, whitening, rows, key), inputs, batch)

            return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, whitening)

        return whole

    def in_parts(params, whitening, rows, inputs, batch, key):
        cut_rows, numbers = _cut(rows, parts, mesh), jnp.arange(parts)

        def of_part(params, whitening, rows, number) -> Reduced:
            return reduced(params, whitening, rows, jax.random.fold_in(key, number))

        def combined(known: Reduced):
            return objective.combine(known, inputs, batch)

        def forward(_, part):
            return None, of_part(params, whitening, *part)

        known = jax.eval_shape(lambda: lax.scan(forward, None, (cut_rows, numbers))[1])
        # The gradient of a loss that is not coupled is the same everywhere, so it is taken where nothing is known yet.
        known = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), known)
        if objective.coupled:
            known = lax.scan(forward, None, (cut_rows, numbers))[1]
        by_rows, by_scalars = jax.grad(combined, has_aux=True)(_joined(known, mesh))[0]
        by_scalars = jax.tree.map(lambda gradient: gradient / parts, by_scalars)

        def backward(sums, part):
            rows, number, by_rows = part
            known, pull = jax.vjp(lambda params, whitening: of_part(params, whitening, rows, number), params, whitening)
            return jax.tree.map(jnp.add, sums, pull(Reduced(by_rows, by_scalars))), known

        zeros = jax.tree.map(jnp.zeros_like, (params, whitening))
        cut = (cut_rows, numbers, _cut(by_rows, parts, mesh))
        (grads, change), known = lax.scan(backward, zeros, cut)
        return combined(_joined(known, mesh)), (grads, change / parts)

    return in_parts


def _cut(tree: Any, parts: int, mesh: Mesh) -> Any:
    """Arrays (B, ...) as (parts, B / parts, ...): of the rows of each device, so that none has to move."""
    devices = batch_shards(mesh)
    place = NamedSharding(mesh, PartitionSpec(None, BATCH_AXES))

    def cut(x):
        if x.shape[0] % (devices * parts):
            raise UserError(
                f"a batch of {x.shape[0]} clips cannot be cut in config.train.accumulate={parts} parts on {devices} "
                f"devices: make config.data.clips_multiple a multiple of {devices * parts}"
            )
        split = x.reshape(devices, parts, -1, *x.shape[1:]).swapaxes(0, 1)
        return lax.with_sharding_constraint(split.reshape(parts, -1, *x.shape[1:]), place)

    return jax.tree.map(cut, tree)


def _joined(known: Reduced, mesh: Mesh) -> Reduced:
    """The rows of all parts in the order of the batch; scalars are the same in all parts."""
    devices, place = batch_shards(mesh), NamedSharding(mesh, PartitionSpec(BATCH_AXES))

    def join(x):
        split = x.reshape(x.shape[0], devices, -1, *x.shape[2:]).swapaxes(0, 1)
        return lax.with_sharding_constraint(split.reshape(-1, *x.shape[2:]), place)

    return Reduced(jax.tree.map(join, known.rows), jax.tree.map(lambda x: x[0], known.scalars))
