"""Contrastive learning over the global batch: a clip and its caption against all other captions and clips.

Clips of the same recording or with the same caption are not each other's negatives, unless the settings say so.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from alp_jax.config.schema import ObjectiveConfig
from alp_jax.core.names import choose
from alp_jax.objectives.base import Arrays, Objective, SpecialTokens
from alp_jax.objectives.pairwise import PairSums, pair_sums

REDUCTIONS = ("mean", "sum")


def make_contrastive(config: ObjectiveConfig, tokens: SpecialTokens, mesh: Mesh) -> Objective:
    """The contrastive objective on ``mesh``: InfoNCE (van den Oord et al. 2018) or SigLIP (Zhai et al. 2023).

    Reduced by ``mean``, the loss is the mean over both directions and all clips, as CLIP and SigLIP have it. Reduced by
    ``sum``, it is their sum, as in the reference; SigLIP's two directions are the same pairs, which then count twice.
    There is no bias on SigLIP's logits, as there is none in the reference. ``embed_reg`` times ``embedding_penalty`` is
    added after the reduction.

    Raises:
      UserError: an unknown loss or reduction.
    """
    choose(config.reduction, REDUCTIONS, "config.objective.reduction")

    def prepare(batch: Arrays, key) -> Arrays:
        del key
        text_BL, text_len_B = wrap_caption(batch["text"], batch["text_len"], tokens)
        return {"text_BL": text_BL, "text_len_B": text_len_B}

    def loss(outputs: Arrays, inputs: Arrays, batch: Arrays) -> tuple[jax.Array, Arrays]:
        del inputs
        log_scale = outputs["logit_scale"] if config.learn_temperature else lax.stop_gradient(outputs["logit_scale"])
        scale = jnp.exp(jnp.minimum(log_scale, jnp.log(config.max_logit_scale)))
        groups_BG = jnp.stack([batch["recording"], batch["caption_group"]], 1)
        sums = pair_sums(
            outputs["audio_embed_BD"],
            outputs["text_embed_BD"],
            scale,
            groups_BG if config.exclude_duplicates else None,
            batch["mask"],
            loss=config.loss,
            mesh=mesh,
            chunk=config.chunk,
        )
        value = sums.loss if config.reduction == "sum" else sums.loss / (2 * sums.clips)
        metrics = {"accuracy": sums.hits / (2 * sums.clips), "logit_scale": scale}
        if config.embed_reg:
            metrics["embedding_penalty"] = embedding_penalty(sums, outputs["audio_embed_BD"].shape[1])
            value = value + config.embed_reg * metrics["embedding_penalty"]
        return value, metrics

    return Objective(prepare, loss)


def embedding_penalty(sums: PairSums, width: int) -> jax.Array:
    """The reference's ``embed_reg``: mean absolute entry over L2 norm of all clips' embeddings, plus all captions'."""
    entries = sums.clips * width
    return sums.audio_abs / (entries * jnp.sqrt(sums.audio_square)) + sums.text_abs / (
        entries * jnp.sqrt(sums.text_square)
    )


def wrap_caption(text_BL: jax.Array, text_len_B: jax.Array, tokens: SpecialTokens) -> tuple[jax.Array, jax.Array]:
    """Puts BOS before and EOS after every caption: int32[B, L] -> (int32[B, L + 2], int32[B])."""
    batch = text_BL.shape[0]
    edge_B1 = jnp.full((batch, 1), tokens.pad, text_BL.dtype)
    wrapped_BL = jnp.concatenate([edge_B1 + (tokens.bos - tokens.pad), text_BL, edge_B1], axis=1)
    at_end_BL = jnp.arange(wrapped_BL.shape[1]) == text_len_B[:, None] + 1
    return jnp.where(at_end_BL, tokens.eos, wrapped_BL), text_len_B + 2
