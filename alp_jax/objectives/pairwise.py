"""Losses over all pairs of the global batch, exact and in bounded memory.

Every device compares its own rows with all columns, a chunk at a time; the chunks are computed again in the backward
pass, so the B x B similarities never exist.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from alp_jax.core.names import choose
from alp_jax.parallel.mesh import BATCH_AXES

_MASKED = -1e30  # stands for -inf in sums of exponentials without making NaN gradients


class _Loss(NamedTuple):
    """How a query's loss grows from its positive logit over chunks of negatives; ``top_N`` is the largest logit yet."""

    start: Callable  # positive_N -> total_N
    add: Callable  # (total_N, top_N, new_top_N, logits_NC) -> total_N
    finish: Callable  # (total_N, top_N, positive_N) -> loss_N


LOSSES = {
    # Cross entropy with the own pair as the class, by an online softmax. The positive opens the sum, so that the
    # largest logit is finite from the start.
    "info_nce": _Loss(
        start=lambda positive_N: jnp.exp(positive_N - lax.stop_gradient(positive_N)),
        add=lambda total_N, top_N, new_top_N, logits_NC: (
            total_N * jnp.exp(top_N - new_top_N) + jnp.exp(logits_NC - new_top_N[:, None]).sum(1)
        ),
        finish=lambda total_N, top_N, positive_N: jnp.log(total_N) + top_N - positive_N,
    ),
    # Binary cross entropy of every pair by itself.
    "siglip": _Loss(
        start=lambda positive_N: jax.nn.softplus(-positive_N),
        add=lambda total_N, top_N, new_top_N, logits_NC: total_N + jax.nn.softplus(logits_NC).sum(1),
        finish=lambda total_N, top_N, positive_N: total_N,
    ),
}


class PairSums(NamedTuple):
    """Sums over the valid rows of the global batch, scalars.

    Attributes:
      loss: of both directions.
      hits: queries of both directions whose own pair is the most similar.
      clips: the number of valid rows.
      audio_abs, text_abs, audio_square, text_square: absolute values and squares of all entries of the embeddings.
    """

    loss: jax.Array
    hits: jax.Array
    clips: jax.Array
    audio_abs: jax.Array
    text_abs: jax.Array
    audio_square: jax.Array
    text_square: jax.Array


def pair_sums(
    audio_BD: jax.Array,
    text_BD: jax.Array,
    scale: jax.Array,
    groups_BG: jax.Array | None,
    mask_B: jax.Array,
    *,
    loss: str,
    mesh: Mesh,
    chunk: int,
) -> PairSums:
    """Compares every clip with every caption and every caption with every clip.

    Args:
      audio_BD, text_BD: float32, L2-normalised, split over the batch axes of ``mesh``.
      scale: inverse temperature, scalar.
      groups_BG: int32; two rows that agree in any of the G columns are not negatives of each other. None: all are.
      mask_B: False rows are padding and take no part.
      loss: a key of ``LOSSES``.
      chunk: columns compared at a time.

    Raises:
      UserError: an unknown loss.
    """
    kind = LOSSES[choose(loss, LOSSES, "config.objective.loss")]
    rows = PartitionSpec(BATCH_AXES)
    groups_BG = jnp.arange(audio_BD.shape[0])[:, None] if groups_BG is None else groups_BG

    @partial(jax.shard_map, mesh=mesh, in_specs=(rows, rows, PartitionSpec(), rows, rows), out_specs=PartitionSpec())
    def sharded(audio_ND, text_ND, scale, groups_NG, mask_N):
        # Each gather waits for the one before: on CPU devices, independent ones can be begun in different orders and
        # then wait for each other for ever.
        audio_MD = _gather(audio_ND)
        text_ND, audio_MD = lax.optimization_barrier((text_ND, audio_MD))
        text_MD = _gather(text_ND)
        groups_NG, text_MD = lax.optimization_barrier((groups_NG, text_MD))
        groups_MG = _gather(groups_NG)
        mask_N, groups_MG = lax.optimization_barrier((mask_N, groups_MG))
        first = lax.axis_index(BATCH_AXES) * audio_ND.shape[0]
        columns = (groups_MG, _gather(mask_N))
        position_N = first + jnp.arange(audio_ND.shape[0])
        direction = partial(
            _direction, kind, scale=scale, position_N=position_N, groups_NG=groups_NG, columns=columns, chunk=chunk
        )
        to_text_N, hit_text_N = direction(audio_ND, text_MD)
        to_audio_N, hit_audio_N = direction(text_ND, audio_MD)
        weight_N = mask_N.astype(jnp.float32)
        both_NE = [jnp.abs(audio_ND), jnp.abs(text_ND), jnp.square(audio_ND), jnp.square(text_ND)]
        parts = [to_text_N + to_audio_N, hit_text_N + hit_audio_N, jnp.ones_like(weight_N)]
        parts += [value_ND.sum(1) for value_ND in both_NE]
        return lax.psum(jnp.stack([jnp.sum(part_N * weight_N) for part_N in parts]), BATCH_AXES)

    return PairSums(*sharded(audio_BD, text_BD, scale, groups_BG, mask_B))


def _gather(x_N: jax.Array) -> jax.Array:
    """The rows of all devices, in order."""
    return lax.all_gather(x_N, BATCH_AXES, tiled=True)


def _direction(kind, query_ND, key_MD, *, scale, position_N, groups_NG, columns, chunk):
    """Loss and top-1 hit of every query against all keys; query n belongs to key ``position_N[n]``."""
    groups_MG, mask_M = columns
    total = key_MD.shape[0]
    chunk = min(chunk, total)
    padding = -total % chunk
    blocks = jax.tree.map(
        lambda x: jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1)).reshape(-1, chunk, *x.shape[1:]),
        (key_MD, groups_MG, mask_M, jnp.arange(total)),
    )
    own_ND = jnp.take(key_MD, position_N, axis=0)
    positive_N = jnp.sum(query_ND * own_ND, -1) * scale

    @jax.checkpoint
    def block_step(carry, block):
        top_N, total_N = carry
        key_CD, groups_CG, mask_C, index_C = block
        logits_NC = jnp.matmul(query_ND, key_CD.T, precision=lax.Precision.HIGHEST) * scale
        same_NC = jnp.any(groups_NG[:, None] == groups_CG[None], axis=-1)
        own_NC = position_N[:, None] == index_C[None]
        negative_NC = mask_C[None] & ~same_NC & ~own_NC
        logits_NC = jnp.where(negative_NC, logits_NC, _MASKED)
        new_top_N = jnp.maximum(top_N, lax.stop_gradient(logits_NC.max(1)))
        return (new_top_N, kind.add(total_N, top_N, new_top_N, logits_NC)), None

    start = (lax.stop_gradient(positive_N), kind.start(positive_N))
    (top_N, total_N), _ = lax.scan(block_step, start, blocks)
    hit_N = (lax.stop_gradient(positive_N) >= top_N).astype(jnp.float32)
    return kind.finish(total_N, top_N, positive_N), hit_N
