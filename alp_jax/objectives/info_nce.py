"""InfoNCE (van den Oord et al. 2018, as in CLIP) over the global batch, exact and in bounded memory.

Embeddings are gathered once. The forward pass keeps one number per row and direction, the logarithm of its sum of
exponentials; from these every device computes the gradients of its own rows alone. So gradients of embeddings are never
sent: what goes over the wire is 2 B D numbers per step, half of what differentiating the gather would take.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from alp_jax.objectives.pairwise import (
    MASKED,
    ROWS,
    WHOLE,
    PairSums,
    Tags,
    chunks,
    compared,
    count_negatives,
    own_tags,
    similarity,
    summed,
    weighted,
)
from alp_jax.parallel.mesh import BATCH_AXES


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
    def sums(audio_BD, text_BD, scale):
        return forward(audio_BD, text_BD, scale, group_BG, valid_B)[0]

    def sums_forward(audio_BD, text_BD, scale):
        found, kept = forward(audio_BD, text_BD, scale, group_BG, valid_B)
        return found, (audio_BD, text_BD, scale, kept)

    def sums_backward(saved, gradient: PairSums):
        audio_BD, text_BD, scale, kept = saved
        return backward(gradient.loss, audio_BD, text_BD, scale, group_BG, valid_B, kept)

    sums.defvjp(sums_forward, sums_backward)
    return sums(audio_BD, text_BD, scale)


def _forward(audio_ND, text_ND, scale, group_NG, valid_N, *, chunk):
    rows = own_tags(group_NG, valid_N)
    # Each gather waits for the one before: on CPU devices, independent ones can be begun in different orders and then
    # wait for each other for ever.
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


def _sum_of_exponentials(query_ND, key_MD, own_N, scale, rows, columns, chunk):
    """(log of the sum over the own key and all negatives, the largest negative logit), both [N], by an online softmax.

    The own logit opens the sum, so that the largest logit is finite from the start.
    """

    def add(carry, block):
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


def _backward(gradient, audio_ND, text_ND, scale, group_NG, valid_N, kept, *, chunk):
    audio_MD, text_MD, columns, logsum_N2 = kept
    rows, logsum_M2 = own_tags(group_NG, valid_N), _gather(logsum_N2)
    ahead = partial(_pull, scale=scale, rows=rows, columns=columns, chunk=chunk)
    audio_grad_ND, by_scale = ahead(audio_ND, text_MD, logsum_N2[:, 0], logsum_M2[:, 1])
    text_grad_ND, _ = ahead(text_ND, audio_MD, logsum_N2[:, 1], logsum_M2[:, 0])
    return (
        gradient * scale * audio_grad_ND,
        gradient * scale * text_grad_ND,
        gradient * lax.psum(by_scale, BATCH_AXES),
    )


def _pull(query_ND, key_MD, logsum_N, logsum_M, *, scale, rows, columns, chunk):
    """(sum over keys of how much each pair's logit raises the loss, times the key; the same times the similarity).

    A pair stands in two sums: ``logsum_N`` over the keys of its query and ``logsum_M`` over the queries of its key.
    """

    def add(carry, block):
        grad_ND, by_scale = carry
        key_CD, tags, logsum_C = block
        negative_NC, own_NC = compared(rows, tags)
        similar_NC = similarity(query_ND, key_CD)
        logits_NC = jnp.where(negative_NC | own_NC, scale * similar_NC, MASKED)
        share_NC = jnp.exp(logits_NC - logsum_N[:, None]) + jnp.exp(logits_NC - logsum_C[None])
        share_NC = share_NC - 2.0 * own_NC
        return (grad_ND + weighted(share_NC, key_CD), by_scale + jnp.sum(share_NC * similar_NC)), None

    start = (jnp.zeros_like(query_ND), jnp.zeros((), query_ND.dtype))
    return lax.scan(add, start, chunks((key_MD, columns, logsum_M), chunk))[0]
