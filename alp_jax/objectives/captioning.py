"""Captioning: part of the batch is decoded left to right, the rest in parallel from MASK tokens (CapPa)."""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from alp_jax.config.schema import ObjectiveConfig
from alp_jax.config.schema.model import DECODER
from alp_jax.objectives.base import Arrays, Objective, ObjectiveSpec, Reduced, SpecialTokens
from alp_jax.objectives.token_loss import token_losses


def make_captioning(config: ObjectiveConfig, tokens: SpecialTokens, mesh: Mesh) -> Objective:
    """The captioning objective (Tschannen et al. 2023, "Image Captioners Are Scalable Vision Learners Too").

    Autoregressive rows read BOS + caption and predict caption + EOS under a causal mask; parallel rows read MASK
    tokens without a causal mask and predict the caption. The loss is the mean over all tokens of the global batch; the
    reference averages per process and then over processes, which gives short captions beside other short ones more
    weight.
    """

    def prepare(batch: Arrays, key: jax.Array) -> Arrays:
        causal_B = choose_causal(key, batch["text"].shape[0], config.autoregressive_share)
        return decoder_inputs(batch["text"], batch["text_len"], causal_B, tokens)

    def reduce(outputs: Arrays, inputs: Arrays) -> Reduced:
        targets_BL = inputs["targets_BL"]
        inside_BL = jnp.arange(targets_BL.shape[1]) < inputs["decoder_len_B"][:, None]
        states_BLD, vocab_DV = outputs["decoded_BLD"], outputs["vocab_DV"]
        found = token_losses(states_BLD, vocab_DV, targets_BL, smoothing=config.label_smoothing, mesh=mesh)
        hits_B = jnp.sum(1.0 * found.hit * inside_BL, 1)
        return Reduced({"loss_B": jnp.sum(found.loss * inside_BL, 1), "hits_B": hits_B}, {})

    def combine(reduced: Reduced, inputs: Arrays, batch: Arrays) -> tuple[jax.Array, Arrays]:
        loss_B, hits_B = reduced.rows["loss_B"], reduced.rows["hits_B"]
        weight_B = batch["mask"].astype(loss_B.dtype)
        tokens_B = inputs["decoder_len_B"].astype(loss_B.dtype)
        causal_B = weight_B * inputs["causal_B"]

        # One division, by the tokens of the whole batch, as only ``combine`` sees it: a mean of the means of parts or
        # devices would give the captions of a part with few tokens more weight.
        def per_token(value_B: jax.Array, weight_B: jax.Array) -> jax.Array:
            # A batch may have no row of one kind, whose mean is then 0 and not NaN.
            return jnp.sum(value_B * weight_B) / jnp.maximum(jnp.sum(tokens_B * weight_B), 1.0)

        metrics = {
            "accuracy": per_token(hits_B, weight_B),
            "loss_autoregressive": per_token(loss_B, causal_B),
            "loss_parallel": per_token(loss_B, weight_B - causal_B),
        }
        return per_token(loss_B, weight_B), metrics

    return Objective(prepare, reduce, combine)


def choose_causal(key: jax.Array, batch: int, share: float) -> jax.Array:
    """bool[B]: which rows of the global batch are autoregressive.

    As in the reference, round(B * (1 - share)) rows are parallel, halves rounded to even numbers.
    """
    # Of the global batch, and an exact number of rows: drawn by device or by row, the share would vary from step to
    # step, and with the number of devices.
    order_B = jax.random.permutation(key, batch)
    return order_B >= round(batch * (1 - share))


def decoder_inputs(text_BL: jax.Array, text_len_B: jax.Array, causal_B: jax.Array, tokens: SpecialTokens) -> Arrays:
    """Decoder tokens, lengths and targets, all int32[B, L + 1] or [B], for both kinds of rows."""
    batch = text_BL.shape[0]
    pad_B1 = jnp.full((batch, 1), tokens.pad, text_BL.dtype)
    bos_B1 = jnp.full((batch, 1), tokens.bos, text_BL.dtype)
    # An autoregressive row has one position more, in which it predicts EOS; a parallel row knows its length from its
    # MASKs.
    length_B = text_len_B + causal_B.astype(text_len_B.dtype)
    position_L = jnp.arange(text_BL.shape[1] + 1)
    inside_BL = position_L < length_B[:, None]
    shifted_BL = jnp.concatenate([bos_B1, text_BL], 1)
    ids_BL = jnp.concatenate([text_BL, pad_B1], 1)
    input_BL = jnp.where(causal_B[:, None], shifted_BL, tokens.mask)
    at_end_BL = causal_B[:, None] & (position_L == text_len_B[:, None])
    return {
        "decoder_in_BL": jnp.where(inside_BL, input_BL, tokens.pad),
        "decoder_len_B": length_B,
        "causal_B": causal_B,
        "targets_BL": jnp.where(inside_BL, jnp.where(at_end_BL, tokens.eos, ids_BL), tokens.pad),
    }


SPEC = ObjectiveSpec(
    "captioning",
    sides=(DECODER,),
    make=make_captioning,
    metrics=lambda config: ("accuracy", "loss_autoregressive", "loss_parallel"),
)
