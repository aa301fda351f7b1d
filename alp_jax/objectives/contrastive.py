"""Symmetric InfoNCE over the global batch, exact and in bounded memory.

Every device compares its own rows with all columns, a chunk at a time, with an online softmax whose blocks are
computed again in the backward pass: the B x B similarities never exist. Clips of the same recording or with the same
caption are not each other's negatives.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from alp_jax.config.schema import ObjectiveConfig
from alp_jax.objectives.base import Arrays, Objective, SpecialTokens
from alp_jax.parallel.mesh import BATCH_AXES

_MASKED = -1e30  # stands for -inf in sums of exponentials without making NaN gradients


def make_contrastive(config: ObjectiveConfig, tokens: SpecialTokens, mesh: Mesh) -> Objective:
    """The contrastive objective (CLAP; van den Oord et al. 2018) on ``mesh``."""

    def prepare(batch: Arrays, key) -> Arrays:
        del key
        text_BL, text_len_B = wrap_caption(batch["text"], batch["text_len"], tokens)
        return {"text_BL": text_BL, "text_len_B": text_len_B}

    def loss(outputs: Arrays, inputs: Arrays, batch: Arrays) -> tuple[jax.Array, Arrays]:
        del inputs
        log_scale = outputs["logit_scale"] if config.learn_temperature else lax.stop_gradient(outputs["logit_scale"])
        scale = jnp.exp(jnp.minimum(log_scale, jnp.log(config.max_logit_scale)))
        groups_BG = jnp.stack([batch["recording"], batch["caption_group"]], 1)
        value, accuracy = info_nce(
            outputs["audio_embed_BD"],
            outputs["text_embed_BD"],
            scale,
            groups_BG if config.exclude_duplicates else None,
            batch["mask"],
            mesh=mesh,
            chunk=config.chunk,
        )
        return value, {"accuracy": accuracy, "logit_scale": scale}

    return Objective(prepare, loss)


def wrap_caption(text_BL: jax.Array, text_len_B: jax.Array, tokens: SpecialTokens) -> tuple[jax.Array, jax.Array]:
    """Puts BOS before and EOS after every caption: int32[B, L] -> (int32[B, L + 2], int32[B])."""
    batch = text_BL.shape[0]
    edge_B1 = jnp.full((batch, 1), tokens.pad, text_BL.dtype)
    wrapped_BL = jnp.concatenate([edge_B1 + (tokens.bos - tokens.pad), text_BL, edge_B1], axis=1)
    at_end_BL = jnp.arange(wrapped_BL.shape[1]) == text_len_B[:, None] + 1
    return jnp.where(at_end_BL, tokens.eos, wrapped_BL), text_len_B + 2


def info_nce(
    audio_BD: jax.Array,
    text_BD: jax.Array,
    scale: jax.Array,
    groups_BG: jax.Array | None,
    mask_B: jax.Array,
    *,
    mesh: Mesh,
    chunk: int,
) -> tuple[jax.Array, jax.Array]:
    """Mean of the two directions' cross entropies over valid rows, and the mean top-1 accuracy of both directions.

    Args:
      audio_BD, text_BD: float32, L2-normalised, split over the batch axes of ``mesh``.
      scale: inverse temperature, scalar.
      groups_BG: int32; two rows that agree in any of the G columns are not negatives of each other. None: all are.
      mask_B: False rows are padding and take no part.
      chunk: columns compared at a time.
    """
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
            _direction, scale=scale, position_N=position_N, groups_NG=groups_NG, columns=columns, chunk=chunk
        )
        to_text_N, hit_text_N = direction(audio_ND, text_MD)
        to_audio_N, hit_audio_N = direction(text_ND, audio_MD)
        weight_N = mask_N.astype(jnp.float32)
        sums = jnp.stack(
            [
                jnp.sum((to_text_N + to_audio_N) * weight_N),
                jnp.sum((hit_text_N + hit_audio_N) * weight_N),
                jnp.sum(weight_N),
            ]
        )
        loss, hits, count = lax.psum(sums, BATCH_AXES)
        return loss / (2 * count), hits / (2 * count)

    return sharded(audio_BD, text_BD, scale, groups_BG, mask_B)


def _gather(x_N: jax.Array) -> jax.Array:
    """The rows of all devices, in order."""
    return lax.all_gather(x_N, BATCH_AXES, tiled=True)


def _direction(query_ND, key_MD, *, scale, position_N, groups_NG, columns, chunk):
    """Cross entropy and top-1 hit of every query against all keys; query n belongs to key ``position_N[n]``."""
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
        total_N = total_N * jnp.exp(top_N - new_top_N) + jnp.exp(logits_NC - new_top_N[:, None]).sum(1)
        return (new_top_N, total_N), None

    # The positive opens the sum, so the running maximum is finite from the start.
    start = (lax.stop_gradient(positive_N), jnp.exp(positive_N - lax.stop_gradient(positive_N)))
    (top_N, total_N), _ = lax.scan(block_step, start, blocks)
    hit_N = (lax.stop_gradient(positive_N) >= top_N).astype(jnp.float32)
    return jnp.log(total_N) + top_N - positive_N, hit_N
