"""Cases of kind ``audio-caption``: logits and losses of the three decoding modes, greedy captions."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.interop.golden.case import Case
from alp_jax.interop.golden.compare import Line, compare
from alp_jax.interop.names import from_torch
from alp_jax.interop.reference import caption_config
from alp_jax.models.decoder import CaptionDecoder
from alp_jax.models.dual import AudioTextModel
from alp_jax.models.functional import functionalize

MODES = ("ar", "parallel", "mixed")


def check(case: Case) -> Iterator[Line]:
    """Encoder frames, then decoder states, logits and loss per mode, then greedy tokens (which must be equal)."""
    io, weights, line = case.tensors(), case.tensors("weights"), partial(compare, case.name)
    config = caption_config(case.config["caption_config"], case.config["vocab_size"])
    init, apply = functionalize(lambda rngs: AudioTextModel(config, "captioning", rngs=rngs))
    width = max(config.encoder.encoder_dim)
    _, apply_decoder = functionalize(lambda rngs: CaptionDecoder(config.decoder, width, rngs=rngs))
    params = from_torch(weights, jax.eval_shape(init, jax.random.key(0)), "audio-caption")
    decoder = params["decoder"]

    @jax.jit
    def encode(params, mel, mel_len):
        frames, frames_len = apply(params, mel, mel_len, method="encode", padding="reference")
        return frames, frames_len, apply_decoder(params["decoder"], frames, method="memory")

    frames, frames_len, memory = encode(params, io["in.x"], jnp.asarray(io["in.x_lens"], jnp.int32))
    yield line("mid.encoder_out", frames, io["mid.encoder_out"])
    yield line("mid.memory_lens", frames_len, np.sum(~io["mid.memory_key_padding_mask"], axis=1), 0)
    if "mid.memory" in io:
        yield line("mid.memory", memory, io["mid.memory"], relative=True)

    @jax.jit
    def decode(decoder, tokens, tokens_len, causal, memory, frames_len):
        hidden = apply_decoder(decoder, tokens, tokens_len, causal, memory, frames_len, method="hidden")
        return hidden, apply_decoder(decoder, hidden, method="logits")

    for mode in MODES:
        inside = ~io[f"{mode}.tgt_pad_mask"]
        tokens, causal = jnp.asarray(io[f"{mode}.tgt_in"], jnp.int32), io[f"{mode}.tgt_mask"].any((1, 2))
        hidden, logits = decode(decoder, tokens, jnp.asarray(inside.sum(1)), causal, memory, frames_len)
        loss = token_loss(logits, io[f"{mode}.tgt_out"], inside, case.config["caption_config"]["label_smoothing"])
        yield line(f"{mode}.decoder_out", hidden, io[f"{mode}.decoder_out"], relative=True)
        yield line(f"{mode}.logits", logits, io[f"{mode}.logits"], relative=True)
        yield line(f"{mode}.loss", loss, io[f"{mode}.loss"], relative=True)
    ids = {name: case.config["special_ids"][name] for name in ("bos", "eos", "pad")}
    generate = partial(apply_decoder, method="generate", max_length=io["greedy.tokens"].shape[1], **ids)
    yield line("greedy.tokens", jax.jit(generate)(decoder, frames, frames_len), io["greedy.tokens"], 0)


def token_loss(logits_BLV, targets_BL, inside_BL, smoothing: float):
    """Mean over the targets inside; the smoothing is spread over the whole vocabulary, as PyTorch does."""
    log_BLV = jax.nn.log_softmax(logits_BLV)
    own_BL = jnp.take_along_axis(log_BLV, jnp.asarray(targets_BL)[..., None], axis=-1)[..., 0]
    loss_BL = -(1 - smoothing) * own_BL - smoothing * jnp.mean(log_BLV, axis=-1)
    return jnp.sum(jnp.where(inside_BL, loss_BL, 0)) / jnp.sum(inside_BL)
