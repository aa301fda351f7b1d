"""Cases of kind ``clap``: embeddings, the reference's losses and their gradients."""

import math
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.config.schema import MeshConfig, ObjectiveConfig
from alp_jax.config.schema.model import TEXT
from alp_jax.golden.case import Case
from alp_jax.golden.compare import Line, compare, compare_gradient
from alp_jax.golden.module_case import gradient_lines
from alp_jax.interop.formats.names import from_torch, to_torch
from alp_jax.interop.formats.reference import LOSSES, clap_config
from alp_jax.models.dual import AudioTextModel
from alp_jax.models.functional import functionalize
from alp_jax.models.transformer import TextTower
from alp_jax.objectives.base import Arrays, Objective, SpecialTokens
from alp_jax.objectives.contrastive import make_contrastive
from alp_jax.parallel.mesh import make_mesh

REGULARISED = {"noreg": 0.0, "reg": 1.0}
# Too large to store: these gradients are checked through the gradient of the input and the overall norm.
LEFT_OUT = "audio_encoder.encoder_embed."


def check(case: Case) -> Iterator[Line]:
    """Encoder frames, text states, embeddings, similarities, summed losses; gradients of parameters and features."""
    io, line = case.tensors(), partial(compare, case.name)
    config, temperature = clap_config(case.config["clap_config"])
    init, apply = functionalize(lambda rngs: AudioTextModel(config, (TEXT,), temperature=temperature, rngs=rngs))
    _, apply_text = functionalize(lambda rngs: TextTower(config.text, rngs=rngs))
    like = jax.eval_shape(init, jax.random.key(0))
    params = from_torch(case.tensors("weights"), like, "clap", outside={"logit_scale": -math.log(temperature)})
    mel, mel_len = jnp.asarray(io["in.x"]), jnp.asarray(io["in.x_lens"], jnp.int32)
    inputs = {
        "text_BL": jnp.asarray(io["in.input_ids"], jnp.int32),
        "text_len_B": jnp.asarray(io["in.attention_mask"].sum(1), jnp.int32),
    }

    frames, frames_len = jax.jit(partial(apply, method="encode", padding="reference"))(params, mel, mel_len)
    yield line("mid.encoder_out", frames, io["mid.encoder_out"])
    yield line("mid.encoder_out_lens", frames_len, io["mid.encoder_out_lens"], 0)
    states = jax.jit(apply_text)(params["text"], *inputs.values())
    yield line("mid.text_last_hidden_state", states, io["mid.text_last_hidden_state"])

    @partial(jax.jit, static_argnames="loss")
    def differentiate(params, mel, loss):
        def total(params, mel):
            outputs = apply(params, mel, mel_len, inputs, padding="reference")
            return clip_loss(outputs, LOSSES[loss], "reg", temperature), outputs

        return jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(params, mel)

    alone = jax.jit(clip_loss, static_argnums=(1, 2, 3))
    for loss in LOSSES:
        (value, outputs), (grad_params, grad_mel) = differentiate(params, mel, loss)
        if loss == "info-nce":
            audio, text = outputs["audio_embed_BD"], outputs["text_embed_BD"]
            yield line("out.audio_embeds", audio, io["out.audio_embeds"])
            yield line("out.text_embeds", text, io["out.text_embeds"])
            yield line("out.sim_a2t", audio @ text.T, io["out.sim_a2t"])
            yield line("out.sim_t2a", text @ audio.T, io["out.sim_t2a"])
        without = alone(outputs, LOSSES[loss], "noreg", temperature)
        yield line(f"out.loss.{loss}.noreg", without, io[f"out.loss.{loss}.noreg"], relative=True)
        yield line(f"out.loss.{loss}.reg", value, io[f"out.loss.{loss}.reg"], relative=True)
        gradients = to_torch(grad_params, "clap")
        # summed in float64: in a float32 sum, large gradients would swallow the small ones
        norm = math.sqrt(sum(float(np.sum(np.square(value, dtype=np.float64))) for value in gradients.values()))
        name = f"out.grad_norm.{loss}.reg"
        yield compare_gradient(case.name, name, norm, io[name], float(io[name]))
        if loss == "info-nce":
            named = {name: value for name, value in gradients.items() if not name.startswith(LEFT_OUT)}
            yield from gradient_lines(case, named, case.tensors("grads"))
            yield from gradient_lines(case, {"grad_x": grad_mel}, {"grad_x": io["out.grad_x.info-nce.reg"]})


def clip_loss(outputs: Arrays, loss: str, regularised: str, temperature: float) -> jax.Array:
    """The objective with the reference's settings, on one device, where all clips and captions are different."""
    every = jnp.arange(len(outputs["audio_embed_BD"]))
    batch = {"recording": every, "caption_group": every, "mask": every >= 0}
    return _objective(loss, regularised, temperature).loss(outputs, {}, batch)[0]


def _objective(loss: str, regularised: str, temperature: float) -> Objective:
    config = ObjectiveConfig(
        loss=loss,
        reduction="sum",
        embed_reg=REGULARISED[regularised],
        temperature=temperature,
        learn_temperature=False,
        exclude_duplicates=False,
    )
    # The case's captions already have their special tokens, so none are added.
    return make_contrastive(config, SpecialTokens(0, 0, 0, 0), make_mesh(MeshConfig(), jax.devices()[:1]))
