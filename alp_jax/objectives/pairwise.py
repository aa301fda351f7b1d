"""What losses over all pairs of a global batch share: which pairs count, and columns in chunks.

The B x B similarities never exist. Every device holds its own rows against a chunk of columns, and the gradients are
written out by hand, so that nothing of a chunk is kept from the forward to the backward pass.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from alp_jax.parallel.mesh import BATCH_AXES

ROWS, WHOLE = PartitionSpec(BATCH_AXES), PartitionSpec()
MASKED = -1e30  # stands for -inf where that would make NaN


class PairSums(NamedTuple):
    """Sums over the valid rows of the global batch, scalars.

    Attributes:
      loss: of both directions.
      hits: queries of both directions whose own pair is the most similar.
      negatives: captions that clips are told from.
      alone: clips without any.
    """

    loss: jax.Array
    hits: jax.Array
    negatives: jax.Array
    alone: jax.Array

    @classmethod
    def like(cls, value) -> "PairSums":
        """``value`` in every place, as shardings are said."""
        return cls(*[value] * len(cls._fields))


class Tags(NamedTuple):
    """What decides whether two rows are compared.

    Attributes:
      group_NG: int32; two rows that agree in any of the G columns are not negatives of each other.
      valid_N: False rows are padding and take no part.
      index_N: position in the global batch; a clip and its caption have the same.
    """

    group_NG: jax.Array
    valid_N: jax.Array
    index_N: jax.Array


def own_tags(group_NG: jax.Array, valid_N: jax.Array) -> Tags:
    """The tags of this device's rows, inside ``shard_map``."""
    rows = valid_N.shape[0]
    return Tags(group_NG, valid_N, lax.axis_index(BATCH_AXES) * rows + jnp.arange(rows))


def compared(rows: Tags, columns: Tags) -> tuple[jax.Array, jax.Array]:
    """(negative_NC, own_NC): pairs that must differ, and pairs that belong together, valid ones only."""
    valid_NC = rows.valid_N[:, None] & columns.valid_N[None]
    own_NC = rows.index_N[:, None] == columns.index_N[None]
    same_NC = jnp.any(rows.group_NG[:, None] == columns.group_NG[None], axis=-1)
    return valid_NC & ~same_NC & ~own_NC, valid_NC & own_NC


def count_negatives(rows: Tags, columns: Tags, chunk: int) -> jax.Array:
    """[N] float32: how many of the columns each row is told from; ``chunk`` columns at a time."""

    def add(count_N, tags):
        return count_N + jnp.sum(compared(rows, tags)[0], 1, dtype=jnp.float32), None

    return lax.scan(add, jnp.zeros(rows.valid_N.shape, jnp.float32), chunks(columns, chunk))[0]


def summed(loss: jax.Array, hits: jax.Array, negatives_N: jax.Array, valid_N: jax.Array, *more: jax.Array) -> list:
    """The sums of ``PairSums`` over all devices, and of ``more`` scalars, in one message."""
    alone = jnp.sum((negatives_N == 0) & valid_N, dtype=loss.dtype)
    found = [loss, hits, jnp.sum(negatives_N).astype(loss.dtype), alone, *more]
    return list(lax.psum(jnp.stack(found), BATCH_AXES))


def chunks(tree, size: int):
    """Arrays (M, ...) as (number of chunks, ``size`` or M if that is less, ...), zeros (so invalid rows) at the end."""

    def cut(x):
        width = min(size, x.shape[0])
        padded = jnp.pad(x, [(0, -x.shape[0] % width)] + [(0, 0)] * (x.ndim - 1))
        return padded.reshape(-1, width, *x.shape[1:])

    return jax.tree.map(cut, tree)


def similarity(query_ND: jax.Array, key_CD: jax.Array) -> jax.Array:
    """Inner products in full precision: losses of large batches hang on small differences."""
    return jnp.matmul(query_ND, key_CD.T, precision=lax.Precision.HIGHEST)


def weighted(weight_NC: jax.Array, key_CD: jax.Array) -> jax.Array:
    """``weight_NC @ key_CD`` in full precision."""
    return jnp.matmul(weight_NC, key_CD, precision=lax.Precision.HIGHEST)
