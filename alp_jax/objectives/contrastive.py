"""Contrastive learning over the global batch: a clip and its caption against all other captions and clips.

Clips of the same recording or with the same caption are not each other's negatives, unless the settings say so.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from alp_jax.config import ConfigError
from alp_jax.config.schema import ObjectiveConfig, RunConfig
from alp_jax.config.schema.model import TEXT
from alp_jax.core.errors import UserError
from alp_jax.core.names import choose
from alp_jax.objectives.base import Arrays, Objective, ObjectiveSpec, Reduced, SpecialTokens
from alp_jax.objectives.info_nce import info_nce
from alp_jax.objectives.siglip import siglip

LOSSES = ("info_nce", "siglip")
REDUCTIONS = ("mean", "sum")


def make_contrastive(config: ObjectiveConfig, tokens: SpecialTokens, mesh: Mesh) -> Objective:
    """The contrastive objective on ``mesh``: InfoNCE (van den Oord et al. 2018) or SigLIP (Zhai et al. 2023).

    Reduced by ``mean``, the loss is the mean over both directions and all clips, as CLIP and SigLIP have it. Reduced by
    ``sum``, it is their sum, as in the reference; SigLIP's two directions are the same pairs, which then count twice.
    SigLIP's logits have a bias where the model has one (``config.learn_bias``); the reference has none. ``embed_reg``
    times ``embedding_penalty`` of both sides is added after the reduction.

    Raises:
      UserError: an unknown loss or reduction, or a bias with InfoNCE, which does not change with it.
    """
    choose(config.reduction, REDUCTIONS, "config.objective.reduction")
    if choose(config.loss, LOSSES, "config.objective.loss") != "siglip" and config.learn_bias:
        raise UserError(f"config.objective.learn_bias=True has no effect on loss={config.loss}: use loss=siglip")

    def prepare(batch: Arrays, key: jax.Array) -> Arrays:
        del key
        text_BL, text_len_B = wrap_caption(batch["text"], batch["text_len"], tokens)
        return {"text_BL": text_BL, "text_len_B": text_len_B}

    def reduce(outputs: Arrays, inputs: Arrays) -> Reduced:
        del inputs
        rows = {name: outputs[name] for name in ("audio_embed_BD", "text_embed_BD")}
        return Reduced(rows, {name: outputs[name] for name in ("logit_scale", "logit_bias") if name in outputs})

    def combine(reduced: Reduced, inputs: Arrays, batch: Arrays) -> tuple[jax.Array, Arrays]:
        del inputs
        audio_BD, text_BD = reduced.rows["audio_embed_BD"], reduced.rows["text_embed_BD"]
        log_scale, valid_B = reduced.scalars["logit_scale"], batch["mask"]
        # before the limit, which lets a gradient through below itself: a fixed temperature must not get one
        log_scale = log_scale if config.learn_temperature else lax.stop_gradient(log_scale)
        scale = jnp.exp(jnp.minimum(log_scale, jnp.log(config.max_logit_scale)))
        group_BG = jnp.stack([batch["recording"], batch["caption_group"]], 1)
        if not config.exclude_duplicates:
            group_BG = jnp.arange(len(valid_B))[:, None]
        clips, metrics = jnp.sum(valid_B.astype(jnp.float32)), {"logit_scale": scale}
        if config.loss == "siglip":
            bias = reduced.scalars.get("logit_bias", jnp.zeros_like(scale))
            metrics["logit_bias"] = bias
            sums = siglip(audio_BD, text_BD, scale, bias, group_BG, valid_B, mesh=mesh, chunk=config.chunk)
        else:
            sums = info_nce(audio_BD, text_BD, scale, group_BG, valid_B, mesh=mesh, chunk=config.chunk)
        # divided by valid clips, not by rows: padding in the last batch must not make its loss smaller
        value = sums.loss if config.reduction == "sum" else sums.loss / (2 * clips)
        metrics["accuracy"] = sums.hits / (2 * clips)
        metrics |= {"negatives": sums.negatives / clips, "no_negatives_share": sums.alone / clips}
        if config.embed_reg:
            penalty = embedding_penalty(audio_BD, valid_B) + embedding_penalty(text_BD, valid_B)
            metrics["embedding_penalty"] = penalty
            value = value + config.embed_reg * penalty
        return value, metrics

    return Objective(prepare, reduce, combine)


def embedding_penalty(embed_BD: jax.Array, valid_B: jax.Array) -> jax.Array:
    """The reference's ``embed_reg`` of one side: mean absolute entry over the L2 norm of all entries, valid rows."""
    entries_BD = jnp.where(valid_B[:, None], embed_BD, 0.0)
    number = jnp.sum(valid_B.astype(embed_BD.dtype)) * embed_BD.shape[1]
    return jnp.sum(jnp.abs(entries_BD)) / (number * jnp.sqrt(jnp.sum(jnp.square(entries_BD))))


def wrap_caption(text_BL: jax.Array, text_len_B: jax.Array, tokens: SpecialTokens) -> tuple[jax.Array, jax.Array]:
    """Puts BOS before and EOS after every caption: int32[B, L] -> (int32[B, L + 2], int32[B])."""
    batch = text_BL.shape[0]
    edge_B1 = jnp.full((batch, 1), tokens.pad, text_BL.dtype)
    wrapped_BL = jnp.concatenate([edge_B1 + (tokens.bos - tokens.pad), text_BL, edge_B1], axis=1)
    at_end_BL = jnp.arange(wrapped_BL.shape[1]) == text_len_B[:, None] + 1
    return jnp.where(at_end_BL, tokens.eos, wrapped_BL), text_len_B + 2


def check_negatives(config: RunConfig) -> None:
    """Raises ConfigError where a clip has none, or where the temperature is beyond its limit."""
    if config.data.clips_per_batch == 1:  # where it goes by seconds, the clips say how many there are
        raise ConfigError(
            "config.data.clips_per_batch is 1: it must be 2 or more, or 0 to fill batches by seconds; "
            f"{why_negatives(config.objective.name)}"
        )
    # The inverse temperature is limited: one that starts beyond the limit gets no gradient and stays there.
    objective, least = config.objective, 1 / config.objective.max_logit_scale
    if objective.temperature < least * (1 - 1e-6):
        raise ConfigError(
            f"config.objective.temperature is {objective.temperature:g}: it must be at least {least:g}, which is 1 / "
            f"config.objective.max_logit_scale; below it the run would train at {least:g}"
        )


def why_negatives(objective: str) -> str:
    """The end of an error about batches that are too small for ``objective``."""
    return f"objective {objective} compares a clip with the others of its batch"


def metric_names(config: ObjectiveConfig) -> tuple[str, ...]:
    """Names of what the objective reports besides the loss."""
    bias = ("logit_bias",) if config.loss == "siglip" else ()
    penalty = ("embedding_penalty",) if config.embed_reg else ()
    return ("logit_scale", *bias, "accuracy", "negatives", "no_negatives_share", *penalty)


SPEC = ObjectiveSpec(
    "contrastive", sides=(TEXT,), make=make_contrastive, metrics=metric_names, coupled=True, check=check_negatives
)
