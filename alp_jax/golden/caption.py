"""Cases of kind ``audio-caption``: inputs, logits, losses and gradients of the decoding modes, greedy captions."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.config.schema import MeshConfig, ObjectiveConfig
from alp_jax.config.schema.model import DECODER
from alp_jax.golden.case import Case
from alp_jax.golden.compare import Line, compare
from alp_jax.golden.module_case import gradient_lines
from alp_jax.interop.formats.names import from_torch, to_torch
from alp_jax.interop.formats.reference import caption_config
from alp_jax.models.decoder import CaptionDecoder
from alp_jax.models.decoding import Ids
from alp_jax.models.dual import AudioTextModel
from alp_jax.models.functional import functionalize
from alp_jax.objectives.base import Arrays, SpecialTokens
from alp_jax.objectives.captioning import decoder_inputs, make_captioning
from alp_jax.parallel.mesh import make_mesh

MODES = {"ar": 1.0, "parallel": 0.0, "mixed": 0.5}  # share of autoregressive rows
# Too large for the case, and the second name of a shared matrix.
LEFT_OUT = ("audio_encoder.", "text_decoder.output_proj.")


def check(case: Case) -> Iterator[Line]:
    """Encoder frames; decoder inputs, states, logits and loss per mode; gradients; greedy tokens (equal ones)."""
    io, line = case.tensors(), partial(compare, case.name)
    config = caption_config(case.config["caption_config"], case.config["vocab_size"])
    tokens = SpecialTokens(**{name: case.config["special_ids"][name] for name in SpecialTokens._fields})
    init, apply = functionalize(lambda rngs: AudioTextModel(config, (DECODER,), rngs=rngs))
    width = max(config.encoder.encoder_dim)
    _, apply_decoder = functionalize(lambda rngs: CaptionDecoder(config.decoder, width, rngs=rngs))
    params = from_torch(case.tensors("weights"), jax.eval_shape(init, jax.random.key(0)), "audio-caption")
    mel, mel_len = jnp.asarray(io["in.x"]), jnp.asarray(io["in.x_lens"], jnp.int32)

    @jax.jit
    def encode(params, mel, mel_len):
        frames, frames_len = apply(params, mel, mel_len, method="encode", padding="reference")
        return frames, frames_len, apply_decoder(params["decoder"], frames, method="memory")

    frames, frames_len, memory = encode(params, mel, mel_len)
    yield line("mid.encoder_out", frames, io["mid.encoder_out"])
    yield line("mid.memory_lens", frames_len, np.sum(~io["mid.memory_key_padding_mask"], axis=1), 0)
    if "mid.memory" in io:
        yield line("mid.memory", memory, io["mid.memory"], relative=True)

    @partial(jax.jit, static_argnames="mode")
    def differentiate(params, mel, inputs, mode):
        def total(params, mel):
            outputs = apply(params, mel, mel_len, inputs, padding="reference")
            batch = {"mask": jnp.ones(len(mel), bool)}
            logits = outputs["decoded_BLD"] @ outputs["vocab_DV"]
            return _objective(case, tokens, mode).loss(outputs, inputs, batch)[0], logits

        return jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(params, mel)

    hidden_of = jax.jit(partial(apply_decoder, method="hidden"))
    for mode in MODES:
        inputs = _inputs(case, io, tokens, mode)
        yield from _input_lines(case, io, tokens, mode, inputs)
        decoder_in = (inputs["decoder_in_BL"], inputs["decoder_len_B"], inputs["causal_B"])
        hidden = hidden_of(params["decoder"], *decoder_in, memory, frames_len)
        (loss, logits), (grad_params, grad_mel) = differentiate(params, mel, inputs, mode)
        length = io[f"{mode}.tgt_in"].shape[1]
        yield line(f"{mode}.decoder_out", hidden[:, :length], io[f"{mode}.decoder_out"], relative=True)
        yield line(f"{mode}.logits", logits[:, :length], io[f"{mode}.logits"], relative=True)
        yield line(f"{mode}.loss", loss, io[f"{mode}.loss"], relative=True)
    expected = case.tensors("grads")  # of the last mode, as is the gradient of the features
    gradients = to_torch(grad_params, "audio-caption")
    named = {name: g for name, g in gradients.items() if name in expected or not name.startswith(LEFT_OUT)}
    yield from gradient_lines(case, named, expected)
    yield from gradient_lines(case, {"grad_x": grad_mel}, {"grad_x": io["mixed.grad_x"]})
    options = {"max_length": io["greedy.tokens"].shape[1], "ids": Ids(tokens.bos, tokens.eos, tokens.pad)}
    generate = partial(apply_decoder, method="generate", **options)
    yield line("greedy.tokens", jax.jit(generate)(params["decoder"], frames, frames_len), io["greedy.tokens"], 0)


def _objective(case: Case, tokens: SpecialTokens, mode: str):
    smoothing = float(case.config["caption_config"]["label_smoothing"])
    config = ObjectiveConfig(name="captioning", autoregressive_share=MODES[mode], label_smoothing=smoothing)
    return make_captioning(config, tokens, make_mesh(MeshConfig(), jax.devices()[:1]))


def _inputs(case: Case, io: Arrays, tokens: SpecialTokens, mode: str) -> Arrays:
    """The objective's decoder inputs for the captions; in mixed mode with the rows that the reference drew."""
    length = jnp.asarray(io["in.caption_lens"], jnp.int32)
    ids = jnp.asarray(np.where(io["in.caption_ids"] < 0, tokens.pad, io["in.caption_ids"]), jnp.int32)
    inputs = _objective(case, tokens, mode).prepare({"text": ids, "text_len": length}, jax.random.key(0))
    if mode != "mixed":
        return inputs
    parallel = case.config["mixed_perm"][: int(jnp.sum(~inputs["causal_B"]))]
    return decoder_inputs(ids, length, jnp.ones(len(ids), bool).at[jnp.asarray(parallel)].set(False), tokens)


def _input_lines(case: Case, io: Arrays, tokens: SpecialTokens, mode: str, inputs: Arrays) -> Iterator[Line]:
    """Compares inputs: ours are always one token longer than the longest caption, the reference's may be shorter."""
    missing = inputs["decoder_in_BL"].shape[1] - io[f"{mode}.tgt_in"].shape[1]

    def longer(name):
        return np.pad(io[name], ((0, 0), (0, missing)), constant_values=tokens.pad)

    line = partial(compare, case.name, tolerance=0)
    yield line(f"{mode}.tgt_in", inputs["decoder_in_BL"], longer(f"{mode}.tgt_in"))
    yield line(f"{mode}.tgt_out", inputs["targets_BL"], longer(f"{mode}.tgt_out"))
    yield line(f"{mode}.tgt_pad_mask", inputs["decoder_len_B"], np.sum(~io[f"{mode}.tgt_pad_mask"], axis=1))
    yield line(f"{mode}.tgt_mask", inputs["causal_B"], io[f"{mode}.tgt_mask"].any((1, 2)))
