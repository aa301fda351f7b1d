"""Cases of the whole encoder: its intermediates in both ways of padding, and its gradients."""

import re
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json
from alp_jax.golden.case import Case, Named
from alp_jax.golden.compare import Line, compare
from alp_jax.golden.module_case import Recorded, gradient_lines
from alp_jax.interop.formats.names import from_torch, to_torch
from alp_jax.interop.formats.reference import zipformer_config
from alp_jax.models.functional import functionalize, outline
from alp_jax.models.regularisers import count_draws, make_certain
from alp_jax.models.zipformer.encoder import Zipformer

ALONE = "io_alone"  # one clip without padding: the length-exact mode must give the same


def check(case: Case) -> Iterator[Line]:
    """Every ``io*.safetensors``: ``io_alone`` in exact padding, the others in reference padding.

    ``io_chunkC_leftL`` is the causal model with chunks of C frames and L frames of left context; files without inputs
    of their own use those of ``io``.
    """
    weights, settings, main = case.tensors("weights"), case.config["zipformer_config"], case.tensors()
    for stem in sorted(path.stem for path in case.folder.glob("io*.safetensors")):
        io = case.tensors(stem)
        mel, mel_len = (io if "in.x" in io else main)["in.x"], (io if "in.x_lens" in io else main)["in.x_lens"]
        match = re.fullmatch(r"io_chunk(\d+)_left(\d+)", stem)
        chunks = {"chunk_size": (int(match[1]),), "left_context_frames": (int(match[2]),)} if match else {}
        config = zipformer_config(settings, **chunks)
        init, apply = functionalize(lambda rngs, config=config: Zipformer(config, rngs=rngs))
        params = from_torch(weights, jax.eval_shape(init, jax.random.key(0)), "zipformer")
        padding = "exact" if stem == ALONE else "reference"
        names = [key for key in sorted(io) if key.startswith(("mid.", "out."))]

        @jax.jit
        def tapped(params, mel, mel_len, apply=apply, padding=padding, names=names):
            taps = apply(params, mel, mel_len, method="taps", padding=padding)
            return {name: taps[name.split(".", 1)[1]] for name in names if name.split(".", 1)[1] in taps}

        values = tapped(params, jnp.asarray(mel), jnp.asarray(mel_len, jnp.int32))
        for name in names:
            value = _reference_layout(name, values[name]) if name in values else np.zeros(0)
            label = name if stem == "io" else f"{stem}:{name}"
            yield compare(case.name, label, value, io[name], 0 if name.endswith("_lens") else 1e-4)


def check_gradients(case: Case) -> Iterator[Line]:
    """Gradients of sum(frames * out_weight) in reference padding.

    ``zipformer_grad_train`` is training with every drop off and every regulariser acting; weights are those of another
    case, with ``weight_overrides`` on top. ``left_out`` names parameters whose gradients are too large to store: they
    still reach the result through the gradient of the features.
    """
    source = _source(case)
    weights, io = dict(source.tensors("weights")), case.tensors()
    if (case.folder / "weight_overrides.safetensors").is_file():
        weights |= case.tensors("weight_overrides")
    config = zipformer_config(source.config["zipformer_config"])
    training = case.config["kind"] == "zipformer_grad_train"

    def make(rngs):
        return make_certain(Zipformer(config, rngs=rngs), 1.0)

    init, apply = functionalize(make)
    params = from_torch(weights, jax.eval_shape(init, jax.random.key(0)), "zipformer")
    draw_counts = count_draws(outline(make))
    mel_len = jnp.asarray(io["in.x_lens"], jnp.int32)

    @jax.jit
    def differentiate(params, mel):
        def loss(params, mel):
            train = Recorded(draw_counts, case.config["batch_count"], num_clips=len(mel_len)) if training else None
            frames, _ = apply(params, mel, mel_len, padding="reference", train=train)
            return jnp.sum(frames * io["in.out_weight"]), frames

        (total, frames), grads = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, mel)
        return total, frames, *grads

    total, frames, grad_params, grad_mel = differentiate(params, jnp.asarray(io["in.x"]))
    yield compare(case.name, "out.loss", total, io["out.loss"], relative=True)
    if "out.encoder_out" in io:
        yield compare(case.name, "out.encoder_out", frames, io["out.encoder_out"])
    yield from gradient_lines(case, {"grad_x": grad_mel}, {"grad_x": io["out.grad_x"]})
    left_out = case.config.get("left_out", ())
    named = {name: grad for name, grad in to_torch(grad_params, "zipformer").items() if name not in left_out}
    yield from gradient_lines(case, named, case.tensors("grads"))


def _source(case: Case) -> Case:
    """The neighbouring case that ``weights`` names as ``../NAME/weights.safetensors``."""
    match = re.match(r"\.\./([\w-]+)/weights\.safetensors", case.config["weights"])
    if not match:
        raise UserError(f"{case.config.path}: weights must be ../NAME/weights.safetensors")
    folder = case.folder.parent / match[1]
    return Case(match[1], folder, Named(read_json(folder / "config.json", "golden config"), folder / "config.json"))


def _reference_layout(name: str, value: jax.Array) -> jax.Array:
    """The reference keeps intermediates time first, attention weights head first, and positions as a batch of one."""
    if name.endswith("pos_emb"):
        return value[None]
    return jnp.swapaxes(value, 0, 1) if name.startswith("mid.") else value


CHECKS = {
    "zipformer_forward": check,
    "zipformer_grad": check_gradients,
    "zipformer_grad_train": check_gradients,
}
