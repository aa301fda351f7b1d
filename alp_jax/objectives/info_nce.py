"""InfoNCE (van den Oord et al. 2018, as in CLIP) over the global batch, exact and in bounded memory.

The B x B similarities are never materialised. Every device compares its own rows with one chunk of columns at a time,
and the gradients are written out by hand, so that no chunk is kept from the forward to the backward pass. SigLIP shares
the rules for which pairs count, and the chunking.

Embeddings are gathered once. The forward pass keeps one number per row and direction, the logarithm of its sum of
exponentials; from these every device computes the gradients of its own rows alone. So gradients of embeddings are never
sent: 2 B D numbers per step go over the wire, half of what differentiating through the gather would take.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from alp_jax.parallel.mesh import BATCH_AXES

ROWS, WHOLE = PartitionSpec(BATCH_AXES), PartitionSpec()
MASKED = -1e30  # in place of -inf, from which differences would give NaN


class PairSums(NamedTuple):
    """Sums over the valid rows of the global batch, as scalars.

    Attributes:
      loss: of both directions.
      hits: queries, in both directions, whose own pair is the most similar.
      negatives: captions that clips are contrasted with, summed over clips.
      alone: clips without any negative.
    """

    loss: jax.Array
    hits: jax.Array
    negatives: jax.Array
    alone: jax.Array

    @classmethod
    def like(cls, value: Any) -> "PairSums":
        """``value`` in every field, for instance a sharding."""
        return cls(*[value] * len(cls._fields))


class Tags(NamedTuple):
    """What decides whether two rows are compared.

    Attributes:
      group_NG: int32; two rows that agree in any of the G columns are not negatives of each other.
      valid_N: False rows are padding and take no part.
      index_N: position in the global batch; a clip and its caption have the same.
    """

    group_NG: Any  # arrays, or PartitionSpecs where this describes shardings
    valid_N: Any
    index_N: Any


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
    """[N] float32: how many columns are negatives of each row; ``chunk`` columns at a time."""

    def add(count_N: jax.Array, tags: Tags) -> tuple[jax.Array, None]:
        return count_N + jnp.sum(compared(rows, tags)[0], 1, dtype=jnp.float32), None

    return lax.scan(add, jnp.zeros(rows.valid_N.shape, jnp.float32), chunks(columns, chunk))[0]


def summed(loss: jax.Array, hits: jax.Array, negatives_N: jax.Array, valid_N: jax.Array, *more: jax.Array) -> list:
    """The sums of ``PairSums`` over all devices, and of ``more`` scalars, in one message."""
    alone = jnp.sum((negatives_N == 0) & valid_N, dtype=loss.dtype)
    parts = [loss, hits, jnp.sum(negatives_N).astype(loss.dtype), alone, *more]
    return list(lax.psum(jnp.stack(parts), BATCH_AXES))


def chunks(tree: Any, size: int) -> Any:
    """Arrays (M, ...) as (number of chunks, ``size`` or M if that is less, ...), zeros (so invalid rows) at the end."""

    def cut(x: jax.Array) -> jax.Array:
        width = min(size, x.shape[0])
        padded = jnp.pad(x, [(0, -x.shape[0] % width)] + [(0, 0)] * (x.ndim - 1))
        return padded.reshape(-1, width, *x.shape[1:])

    return jax.tree.map(cut, tree)


def similarity(query_ND: jax.Array, key_CD: jax.Array) -> jax.Array:
    """Inner products in full precision: losses of large batches depend on small differences."""
    return jnp.matmul(query_ND, key_CD.T, precision=lax.Precision.HIGHEST)


def weighted(weight_NC: jax.Array, key_CD: jax.Array) -> jax.Array:
    """``weight_NC @ key_CD`` in full precision."""
    return jnp.matmul(weight_NC, key_CD, precision=lax.Precision.HIGHEST)


def info_nce(
    audio_BD: jax.Array,
    text_BD: jax.Array,
    scale: jax.Array,
    group_BG: jax.Array,
    valid_B: jax.Array,
    *,
    mesh: Mesh,
    chunk: int,
) -> PairSums:
    """Cross entropy of every clip's caption among all captions, and of every caption's clip among all clips.

    Args:
      audio_BD, text_BD: float32, L2-normalised, split over the batch axes of ``mesh``.
      scale: inverse temperature, scalar.
      group_BG: int32; rows that agree in any column are not negatives of each other.
      valid_B: False rows are padding.
      chunk: columns compared at a time.
    """
    across = partial(jax.shard_map, mesh=mesh, check_vma=False)
    forward = across(
        partial(_forward, chunk=chunk),
        in_specs=(ROWS, ROWS, WHOLE, ROWS, ROWS),
        out_specs=(PairSums.like(WHOLE), (WHOLE, WHOLE, Tags(WHOLE, WHOLE, WHOLE), ROWS)),
    )
    backward = across(
        partial(_backward, chunk=chunk),
        in_specs=(WHOLE, ROWS, ROWS, WHOLE, ROWS, ROWS, (WHOLE, WHOLE, Tags(WHOLE, WHOLE, WHOLE), ROWS)),
        out_specs=(ROWS, ROWS, WHOLE),
    )

    @jax.custom_vjp
    def sums(audio_BD: jax.Array, text_BD: jax.Array, scale: jax.Array) -> PairSums:
        return forward(audio_BD, text_BD, scale, group_BG, valid_B)[0]

    def sums_forward(audio_BD: jax.Array, text_BD: jax.Array, scale: jax.Array) -> tuple[PairSums, tuple]:
        pair_sums, kept = forward(audio_BD, text_BD, scale, group_BG, valid_B)
        return pair_sums, (audio_BD, text_BD, scale, kept)

    def sums_backward(saved: tuple, gradient: PairSums) -> tuple[jax.Array, jax.Array, jax.Array]:
        audio_BD, text_BD, scale, kept = saved
        return backward(gradient.loss, audio_BD, text_BD, scale, group_BG, valid_B, kept)

    sums.defvjp(sums_forward, sums_backward)
    return sums(audio_BD, text_BD, scale)


def _forward(
    audio_ND: jax.Array,
    text_ND: jax.Array,
    scale: jax.Array,
    group_NG: jax.Array,
    valid_N: jax.Array,
    *,
    chunk: int,
) -> tuple[PairSums, tuple[jax.Array, jax.Array, Tags, jax.Array]]:
    rows = own_tags(group_NG, valid_N)
    # The barriers make each gather wait for the one before. Without them, CPU devices may start independent gathers in
    # different orders and then wait for each other for ever.
    audio_MD = _gather(audio_ND)
    text_ND, audio_MD = lax.optimization_barrier((text_ND, audio_MD))
    text_MD = _gather(text_ND)
    valid_N, text_MD = lax.optimization_barrier((valid_N, text_MD))
    whole = jnp.concatenate([group_NG, valid_N.astype(group_NG.dtype)[:, None]], 1)
    whole_MG = _gather(whole)
    columns = Tags(whole_MG[:, :-1], whole_MG[:, -1] != 0, jnp.arange(len(audio_MD)))
    own_N = scale * jnp.sum(audio_ND * text_ND, 1)
    to_text_N, top_text_N = _sum_of_exponentials(audio_ND, text_MD, own_N, scale, rows, columns, chunk)
    to_audio_N, top_audio_N = _sum_of_exponentials(text_ND, audio_MD, own_N, scale, rows, columns, chunk)
    weight_N = rows.valid_N.astype(own_N.dtype)
    loss = jnp.sum((to_text_N + to_audio_N - 2 * own_N) * weight_N)
    hits = jnp.sum(((own_N >= top_text_N) + 1.0 * (own_N >= top_audio_N)) * weight_N)
    sums = summed(loss, hits, count_negatives(rows, columns, chunk), rows.valid_N)
    return PairSums(*sums), (audio_MD, text_MD, columns, jnp.stack([to_text_N, to_audio_N], 1))


def _gather(x_N: jax.Array) -> jax.Array:
    """The rows of all devices, in order."""
    return lax.all_gather(x_N, BATCH_AXES, tiled=True)


def _sum_of_exponentials(
    query_ND: jax.Array,
    key_MD: jax.Array,
    own_N: jax.Array,
    scale: jax.Array,
    rows: Tags,
    columns: Tags,
    chunk: int,
) -> tuple[jax.Array, jax.Array]:
    """(log of the sum over the own key and all negatives, the largest negative logit), both [N], by an online softmax.

    The own logit opens the sum, so that the largest logit is finite from the start.
    """

    def add(carry: tuple, block: tuple[jax.Array, Tags]) -> tuple[tuple, None]:
        top_N, total_N, top_negative_N = carry
        key_CD, tags = block
        negative_NC, _ = compared(rows, tags)
        logits_NC = jnp.where(negative_NC, scale * similarity(query_ND, key_CD), MASKED)
        largest_N = logits_NC.max(1)
        new_top_N = jnp.maximum(top_N, largest_N)
        total_N = total_N * jnp.exp(top_N - new_top_N) + jnp.exp(logits_NC - new_top_N[:, None]).sum(1)
        return (new_top_N, total_N, jnp.maximum(top_negative_N, largest_N)), None

    start = (own_N, jnp.ones_like(own_N), jnp.full_like(own_N, MASKED))
    (top_N, total_N, top_negative_N), _ = lax.scan(add, start, chunks((key_MD, columns), chunk))
    return top_N + jnp.log(total_N), top_negative_N


def _backward(
    gradient: jax.Array,
    audio_ND: jax.Array,
    text_ND: jax.Array,
    scale: jax.Array,
    group_NG: jax.Array,
    valid_N: jax.Array,
    kept: tuple[jax.Array, jax.Array, Tags, jax.Array],
    *,
    chunk: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    audio_MD, text_MD, columns, logsum_N2 = kept
    # The one number per row that crosses devices here is all that other rows' softmaxes need of this one.
    rows, logsum_M2 = own_tags(group_NG, valid_N), _gather(logsum_N2)
    ahead = partial(_gradients, scale=scale, rows=rows, columns=columns, chunk=chunk)
    audio_grad_ND, by_scale = ahead(audio_ND, text_MD, logsum_N2[:, 0], logsum_M2[:, 1])
    # the same pairs from the other side: adding this call's gradient of the scale would count every pair twice
    text_grad_ND, _ = ahead(text_ND, audio_MD, logsum_N2[:, 1], logsum_M2[:, 0])
    return (
        gradient * scale * audio_grad_ND,
        gradient * scale * text_grad_ND,
        gradient * lax.psum(by_scale, BATCH_AXES),
    )


def _gradients(
    query_ND: jax.Array,
    key_MD: jax.Array,
    logsum_N: jax.Array,
    logsum_M: jax.Array,
    *,
    scale: jax.Array,
    rows: Tags,
    columns: Tags,
    chunk: int,
) -> tuple[jax.Array, jax.Array]:
    """The gradients of the loss by the queries and by the scale, before the factors that ``_backward`` applies.

    A pair is a term of two softmaxes: ``logsum_N`` is over the keys of its query, ``logsum_M`` over the queries of its
    key.
    """

    def add(carry: tuple, block: tuple[jax.Array, Tags, jax.Array]) -> tuple[tuple, None]:
        grad_ND, by_scale = carry
        key_CD, tags, logsum_C = block
        negative_NC, own_NC = compared(rows, tags)
        similar_NC = similarity(query_ND, key_CD)
        logits_NC = jnp.where(negative_NC | own_NC, scale * similar_NC, MASKED)
        # Padding columns carry a logsum of 0, but are masked above, so that exp makes them 0 all the same.
        share_NC = jnp.exp(logits_NC - logsum_N[:, None]) + jnp.exp(logits_NC - logsum_C[None])
        share_NC = share_NC - 2.0 * own_NC  # an own pair is the target of both softmaxes
        return (grad_ND + weighted(share_NC, key_CD), by_scale + jnp.sum(share_NC * similar_NC)), None

    start = (jnp.zeros_like(query_ND), jnp.zeros((), query_ND.dtype))
    return lax.scan(add, start, chunks((key_MD, columns, logsum_M), chunk))[0]
