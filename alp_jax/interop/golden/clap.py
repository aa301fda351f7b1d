"""Cases of kind ``clap``: embeddings and the reference's losses."""

import math
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp

from alp_jax.interop.golden.case import Case
from alp_jax.interop.golden.compare import Line, compare
from alp_jax.interop.names import from_torch
from alp_jax.interop.reference import clap_config
from alp_jax.models.dual import AudioTextModel
from alp_jax.models.functional import functionalize
from alp_jax.models.text import TextTower


def check(case: Case) -> Iterator[Line]:
    """Encoder frames, text states, embeddings, similarities and summed losses."""
    io, weights = case.tensors(), case.tensors("weights")
    config, temperature = clap_config(case.config["clap_config"])
    init, apply = functionalize(lambda rngs: AudioTextModel(config, "contrastive", temperature=temperature, rngs=rngs))
    _, apply_text = functionalize(lambda rngs: TextTower(config.text, rngs=rngs))
    like = jax.eval_shape(init, jax.random.key(0))
    params = from_torch(weights, like, "clap", outside={"logit_scale": -math.log(temperature)})

    @jax.jit
    def forward(params, mel, mel_len, text, text_len):
        frames, frames_len = apply(params, mel, mel_len, method="encode", padding="reference")
        audio = apply(params, frames, frames_len, method="pool_audio")
        text_embeds = apply(params, text, text_len, method="embed_text")
        return frames, frames_len, apply_text(params["text"], text, text_len), audio, text_embeds

    text = jnp.asarray(io["in.input_ids"], jnp.int32)
    text_len = jnp.asarray(io["in.attention_mask"].sum(1), jnp.int32)
    mel_len = jnp.asarray(io["in.x_lens"], jnp.int32)
    frames, frames_len, states, audio, text_embeds = forward(params, io["in.x"], mel_len, text, text_len)
    line = partial(compare, case.name)
    yield line("mid.encoder_out", frames, io["mid.encoder_out"])
    yield line("mid.encoder_out_lens", frames_len, io["mid.encoder_out_lens"], 0)
    yield line("mid.text_last_hidden_state", states, io["mid.text_last_hidden_state"])
    yield line("out.audio_embeds", audio, io["out.audio_embeds"])
    yield line("out.text_embeds", text_embeds, io["out.text_embeds"])
    scale = jnp.exp(params["logit_scale"])
    yield line("out.sim_a2t", audio @ text_embeds.T, io["out.sim_a2t"])
    yield line("out.sim_t2a", text_embeds @ audio.T, io["out.sim_t2a"])
    penalty = embedding_penalty(audio) + embedding_penalty(text_embeds)
    for name, loss in LOSSES.items():
        value = loss(scale * audio @ text_embeds.T)
        yield line(f"out.loss.{name}.noreg", value, io[f"out.loss.{name}.noreg"], relative=True)
        yield line(f"out.loss.{name}.reg", value + penalty, io[f"out.loss.{name}.reg"], relative=True)


def info_nce(logits_BB: jax.Array) -> jax.Array:
    """Cross entropy of both directions, summed over the batch as the reference does."""
    rows, columns = jax.nn.log_softmax(logits_BB, axis=1), jax.nn.log_softmax(logits_BB, axis=0)
    return -jnp.sum(jnp.diag(rows) + jnp.diag(columns))


def siglip(logits_BB: jax.Array) -> jax.Array:
    """Binary cross entropy with the diagonal as targets, summed over both directions, which are the same matrix."""
    return 2 * jnp.sum(jax.nn.softplus(logits_BB) - jnp.eye(len(logits_BB)) * logits_BB)


def embedding_penalty(embeds_BD: jax.Array) -> jax.Array:
    """The reference's ``embed_reg``: mean absolute value over the norm of the whole matrix."""
    return jnp.mean(jnp.abs(embeds_BD)) / jnp.linalg.norm(embeds_BD)


LOSSES = {"info-nce": info_nce, "siglip": siglip}
