"""SigLIP (Zhai et al. 2023) over the global batch: binary cross entropy of every pair by itself, along a ring.

Captions travel from device to device, so none holds more than its own and one other part of the batch. The gradient of
a pair needs no other pair: it is computed when the pair is met, and the gradients of captions travel with them.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from alp_jax.objectives.info_nce import (
    MASKED,
    ROWS,
    WHOLE,
    PairSums,
    Tags,
    chunks,
    compared,
    own_tags,
    similarity,
    summed,
    weighted,
)
from alp_jax.parallel.mesh import BATCH_AXES, batch_shards


def siglip(
    audio_BD: jax.Array,
    text_BD: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    group_BG: jax.Array,
    valid_B: jax.Array,
    *,
    mesh: Mesh,
    chunk: int,
) -> PairSums:
    """Sums of the SigLIP loss; both directions are the same pairs, so every pair counts twice.

    Args:
      audio_BD, text_BD: float32, L2-normalised, split over the batch axes of ``mesh``.
      scale, bias: scalars; the logit of a pair is scale * similarity + bias.
      group_BG: int32; rows that agree in any column are not negatives of each other.
      valid_B: False rows are padding.
      chunk: columns compared at a time.
    """
    ring = partial(jax.shard_map, mesh=mesh, in_specs=(ROWS, ROWS, WHOLE, WHOLE, ROWS, ROWS), check_vma=False)
    around = partial(_ring, devices=batch_shards(mesh), chunk=chunk)
    # Two programs: the gradient of a pair needs no other pair, so where the loss is differentiated the forward pass
    # makes the gradients too, and where it is only measured no device sends any around.
    value = ring(lambda *args: around(*args, gradients=False)[0], out_specs=PairSums.like(WHOLE))
    with_gradients = ring(partial(around, gradients=True), out_specs=(PairSums.like(WHOLE), (ROWS, ROWS, WHOLE, WHOLE)))

    @jax.custom_vjp
    def sums(audio_BD: jax.Array, text_BD: jax.Array, scale: jax.Array, bias: jax.Array) -> PairSums:
        return value(audio_BD, text_BD, scale, bias, group_BG, valid_B)

    def forward(audio_BD: jax.Array, text_BD: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple[PairSums, tuple]:
        return with_gradients(audio_BD, text_BD, scale, bias, group_BG, valid_B)

    def backward(gradients: tuple, of: PairSums) -> tuple:
        # The other sums are metrics, which nothing differentiates.
        return jax.tree.map(lambda gradient: of.loss * gradient, gradients)

    sums.defvjp(forward, backward)
    return sums(audio_BD, text_BD, scale, bias)


def _ring(
    audio_ND: jax.Array,
    text_ND: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    group_NG: jax.Array,
    valid_N: jax.Array,
    *,
    devices: int,
    chunk: int,
    gradients: bool,
) -> tuple[PairSums, tuple | None]:
    """(sums, gradients or None) of this device's rows, which meet all ``devices`` parts of the captions in turn."""
    rows = own_tags(group_NG, valid_N)
    # Without the bias, which is the same for every pair: it changes losses, not which pair is the most similar.
    own_N = scale * jnp.sum(audio_ND * text_ND, 1)
    zero, low_N = jnp.zeros((), audio_ND.dtype), jnp.full_like(own_N, MASKED)
    stays = {"loss": zero, "top_N": low_N, "negatives_N": jnp.zeros(own_N.shape, jnp.float32)}
    travels = {"top_N": low_N}  # with the captions, and back home at the end
    if gradients:
        stays |= {"grad_ND": jnp.zeros_like(audio_ND), "scale": zero, "bias": zero}
        travels |= {"grad_ND": jnp.zeros_like(text_ND)}
    meet = partial(_add_pairs, audio_ND, rows, scale, bias, chunk, gradients)
    shift = partial(lax.ppermute, axis_name=BATCH_AXES, perm=[(i, (i + 1) % devices) for i in range(devices)])

    def turn(carry: tuple, _: None) -> tuple[tuple, None]:
        stays, travels, captions = carry
        stays, travels = meet(stays, travels, captions)
        return (stays, *jax.tree.map(shift, (travels, captions))), None

    # The last meeting is outside the loop, whose every turn ends by sending the captions on: they are needed no more,
    # and only what travels with them makes the last hop, which takes it home.
    (stays, travels, captions), _ = lax.scan(turn, (stays, travels, (text_ND, rows)), length=devices - 1)
    stays, travels = meet(stays, travels, captions)
    travels = jax.tree.map(shift, travels)
    weight_N = rows.valid_N.astype(own_N.dtype)
    hits = jnp.sum(((own_N >= stays["top_N"]) + 1.0 * (own_N >= travels["top_N"])) * weight_N)
    by_scalars = [2 * stays["scale"], 2 * stays["bias"]] if gradients else []
    sums = summed(2 * stays["loss"], hits, stays["negatives_N"], rows.valid_N, *by_scalars)
    pair_sums, by_scalars = PairSums(*sums[:4]), sums[4:]
    if not gradients:
        return pair_sums, None
    by_audio, by_text = (2 * scale * part["grad_ND"] for part in (stays, travels))
    return pair_sums, (by_audio, by_text, *by_scalars)


def _add_pairs(
    audio_ND: jax.Array,
    rows: Tags,
    scale: jax.Array,
    bias: jax.Array,
    chunk: int,
    gradients: bool,
    stays: dict[str, jax.Array],
    travels: dict[str, jax.Array],
    captions: tuple[jax.Array, Tags],
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Adds the pairs of this device's clips with the captions that are here now."""
    number = captions[0].shape[0]

    def add(stays: dict[str, jax.Array], block: Any) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        text_CD, tags, travels = block
        negative_NC, own_NC = compared(rows, tags)
        similar_NC = similarity(audio_ND, text_CD)
        logits_NC = scale * similar_NC + bias
        counts_NC = negative_NC | own_NC
        # Softplus of the signed logit is the cross entropy without the logarithm of a sigmoid, which is -inf for a
        # large one.
        loss_NC = jax.nn.softplus(jnp.where(own_NC, -logits_NC, logits_NC))
        negative_logits_NC = jnp.where(negative_NC, scale * similar_NC, MASKED)
        new = {
            "loss": stays["loss"] + jnp.sum(jnp.where(counts_NC, loss_NC, 0.0)),
            "top_N": jnp.maximum(stays["top_N"], negative_logits_NC.max(1)),
            "negatives_N": stays["negatives_N"] + jnp.sum(negative_NC, 1, dtype=jnp.float32),
        }
        back = {"top_N": jnp.maximum(travels["top_N"], negative_logits_NC.max(0))}
        if gradients:
            share_NC = jnp.where(counts_NC, jax.nn.sigmoid(logits_NC) - own_NC, 0.0)
            new["grad_ND"] = stays["grad_ND"] + weighted(share_NC, text_CD)
            new["scale"] = stays["scale"] + jnp.sum(share_NC * similar_NC)
            new["bias"] = stays["bias"] + jnp.sum(share_NC)
            back["grad_ND"] = travels["grad_ND"] + weighted(share_NC.T, audio_ND)
        return new, back

    stays, travels = lax.scan(add, stays, chunks((*captions, travels), chunk))
    return stays, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:number], travels)
