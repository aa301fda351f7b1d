"""Cases of kind ``zipformer_forward``: the encoder with its intermediates, in both ways of padding."""

import re
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.interop.golden.case import Case
from alp_jax.interop.golden.compare import Line, compare
from alp_jax.interop.names import from_torch
from alp_jax.interop.reference import zipformer_config
from alp_jax.models.functional import functionalize
from alp_jax.models.zipformer import Zipformer

ALONE = "io_alone"  # one clip without padding: the length-exact mode must give the same


def check(case: Case) -> Iterator[Line]:
    """Every ``io*.safetensors``: ``io_alone`` in exact padding, the others in reference padding.

    ``io_chunkC_leftL`` is the causal model with chunks of C frames and L frames of left context; files without inputs
    of their own use those of ``io``.
    """
    weights, settings, main = case.tensors("weights"), case.config["zipformer_config"], case.tensors()
    for stem in case.io_stems():
        io = case.tensors(stem)
        mel, mel_len = (io if "in.x" in io else main)["in.x"], (io if "in.x_lens" in io else main)["in.x_lens"]
        config = zipformer_config(settings, **_chunks(stem))
        init, apply = functionalize(lambda rngs, config=config: Zipformer(config, rngs=rngs))
        params = from_torch(weights, jax.eval_shape(init, jax.random.key(0)), "zipformer")
        padding = "exact" if stem == ALONE else "reference"
        names = [key for key in sorted(io) if key.startswith(("mid.", "out."))]

        @jax.jit
        def tapped(params, mel, mel_len, apply=apply, padding=padding, names=names):
            found = apply(params, mel, mel_len, method="taps", padding=padding)
            return {name: found[name.split(".", 1)[1]] for name in names if name.split(".", 1)[1] in found}

        found = tapped(params, jnp.asarray(mel), jnp.asarray(mel_len, jnp.int32))
        for name in names:
            value = _reference_layout(name, found[name]) if name in found else np.zeros(0)
            label = name if stem == "io" else f"{stem}:{name}"
            yield compare(case.name, label, value, io[name], 0 if name.endswith("_lens") else 1e-4)


def _chunks(stem: str) -> dict[str, tuple[int, ...]]:
    match = re.fullmatch(r"io_chunk(\d+)_left(\d+)", stem)
    return {"chunk_size": (int(match[1]),), "left_context_frames": (int(match[2]),)} if match else {}


def _reference_layout(name: str, value: jax.Array) -> jax.Array:
    """The reference keeps intermediates time first, attention weights head first, and positions as a batch of one."""
    if name.endswith("pos_emb"):
        return value[None]
    return jnp.swapaxes(value, 0, 1) if name.startswith("mid.") else value
