"""Cases of kind ``spec_augment``: time warps between given frames and masks from recorded uniforms."""

import re
from collections.abc import Iterator
from functools import partial

import jax.numpy as jnp

from alp_jax.features.spec_augment import span_mask, time_warp
from alp_jax.golden.case import Case
from alp_jax.golden.compare import Line, compare

TIME_AXIS = "1"


def check(case: Case) -> Iterator[Line]:
    """``warpN`` for every warp of the config, then every ``mask.axisA.nN``; masks hold the mean of the input."""
    io, line = case.tensors(), partial(compare, case.name)
    mel_TF = jnp.asarray(io["in.x"])
    length = jnp.int32(len(mel_TF))
    for index, warp in enumerate(case.config["warps"]):
        warped_TF = time_warp(mel_TF, length, jnp.int32(warp["center"]), jnp.int32(warp["warped"]))
        yield line(f"warp{index}", warped_TF, io[f"warp{index}"])
    for name in sorted(io):
        match = re.fullmatch(r"mask\.axis([12])\.n\d+", name)
        if match:
            size = mel_TF.shape[0] if match[1] == TIME_AXIS else mel_TF.shape[1]
            widths, uniforms = jnp.asarray(io[f"{name}.widths"][0], jnp.int32), jnp.asarray(io[f"{name}.u"][0])
            hidden_S = span_mask(size, jnp.int32(size), widths, uniforms)
            hidden = hidden_S[:, None] if match[1] == TIME_AXIS else hidden_S
            yield line(name, jnp.where(hidden, jnp.mean(mel_TF), mel_TF), io[name])
