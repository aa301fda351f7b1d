"""What an export is compared with: clips, captions, and what JAX computes for them in float32 on the CPU."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from alp_jax.config import RunConfig
from alp_jax.config.schema import TextTowerConfig
from alp_jax.core.errors import UserError
from alp_jax.data.audio.samples import made_clips, sample_clips
from alp_jax.data.store.dataset import Dataset, open_dataset
from alp_jax.features.logmel import log_mel
from alp_jax.models.functional import functionalize
from alp_jax.models.transformer import TextTower
from alp_jax.train.build import find_data, make_model


class Expected(NamedTuple):
    """What the JAX encoder computes for some clips, float32.

    Fields:
      frames: per clip (T, D), valid frames only.
      pooled_ND: mean over the valid frames.
      embed_NE: unit vectors in the space shared with text, or None.
    """

    frames: list[np.ndarray]
    pooled_ND: np.ndarray
    embed_NE: np.ndarray | None


def parity_data(run_dir: str | os.PathLike, config: RunConfig, data: str | None) -> Dataset | None:
    """The data set ``data``, or else the run's own; None where that is not on this machine.

    Raises:
      UserError: ``data`` is not a data set.
    """
    path = data or find_data(run_dir, config)
    return None if path is None else open_dataset(path)


def parity_clips(dataset: Dataset | None, count: int, max_seconds: float) -> tuple[list[np.ndarray], str]:
    """Clips to compare on and a description of them; synthetic ones without a data set. See ``data.audio.samples``."""
    return made_clips(count, max_seconds) if dataset is None else sample_clips(dataset, count, max_seconds)


@contextlib.contextmanager
def on_cpu() -> Iterator[None]:
    """Within the block JAX computes on the CPU in full precision; UserError when JAX_PLATFORMS hides the CPU."""
    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        raise UserError("exports are verified on the CPU, which JAX_PLATFORMS hides: add cpu to it") from None
    with jax.default_device(cpu), jax.default_matmul_precision("highest"):
        yield


def jax_results(config: RunConfig, params: dict[str, Any], clips: list[np.ndarray]) -> Expected:
    """What the encoder computes for int16 ``clips``, whatever type the run computed in."""
    # the run may have computed in bfloat16, whose rounding (1e-2) would hide what a wrong weight changes
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, compute_dtype="float32"))
    _, apply = make_model(config)

    @jax.jit
    def encode(params, audio_BS, len_B):
        encoded = apply(params, *log_mel(audio_BS, len_B, config.features), method="encode")
        return *encoded, (apply(params, *encoded, method="pool_audio") if "audio_proj" in params else None)

    audio_BS, len_B = padded(clips, np.int16)
    with on_cpu():
        frames_BTD, frames_len_B, embed_BE = jax.device_get(encode(params, audio_BS, len_B))
    frames = [frames_TD[:length] for frames_TD, length in zip(frames_BTD, frames_len_B, strict=True)]
    return Expected(frames, np.stack([frames_TD.mean(0) for frames_TD in frames]), embed_BE)


def hidden_states(text: TextTowerConfig, params: dict[str, Any], ids: list[list[int]]) -> list[np.ndarray]:
    """What a text tower computes for token ids, special ones included: (L, D) each."""
    _, apply = functionalize(lambda rngs: TextTower(text, rngs=rngs))
    text_BL, len_B = padded(ids, np.int32)
    with on_cpu():
        hidden_BLD = np.asarray(jax.jit(apply)(params, text_BL, len_B))
    return [hidden_LD[:length] for hidden_LD, length in zip(hidden_BLD, len_B, strict=True)]


def padded(rows: list, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Rows of different lengths as one zero-padded array, and their lengths as int32."""
    len_B = np.array([len(row) for row in rows], np.int32)
    array = np.zeros((len(rows), len_B.max()), dtype)
    for target, row in zip(array, rows, strict=True):
        target[: len(row)] = row
    return array, len_B
