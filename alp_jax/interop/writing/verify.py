"""Proof that an export computes what the JAX encoder computes, in a process that cannot import JAX."""

import contextlib
import importlib.util
import math
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import AlpError, UserError

TOLERANCE = 1e-4  # largest |difference| of float32 outputs
TIMEOUT_S = 1800


class ParityError(AlpError):
    """The exported model does not compute what it should, or does not run."""


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


def require_torch() -> None:
    """Raises UserError unless PyTorch is installed."""
    if importlib.util.find_spec("torch") is None:
        raise UserError("this needs PyTorch, which is not installed: pip install 'alp_jax[torch]'")


@contextlib.contextmanager
def on_cpu() -> Iterator[None]:
    """Inside, JAX computes on the CPU in full precision; UserError when JAX_PLATFORMS hides the CPU."""
    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        raise UserError("exports are verified on the CPU, which JAX_PLATFORMS hides: add cpu to it") from None
    with jax.default_device(cpu), jax.default_matmul_precision("highest"):
        yield


def verify(
    model_dir: str | pathlib.Path, clips: list[np.ndarray], expected: Expected, *, child: str = "child.py"
) -> dict[str, Any]:
    """Compares the export in ``model_dir`` with ``expected`` on ``clips``, each alone and all padded in one batch.

    Args:
      clips: int16 samples at 16 kHz.
      child: what of ``torch_module`` runs the export.

    Returns:
      ``clips``, ``seconds`` of audio, the largest |difference| of ``frames``, ``pooled`` and ``embed`` (absent when the
      model has none), and the ``tolerance`` they stay within.

    Raises:
      UserError: PyTorch is not installed.
      ParityError: the export does not run, or differs by more than ``TOLERANCE``; the message has the numbers.
    """
    require_torch()
    rows = [[i] for i in range(len(clips))] + [list(range(len(clips)))]
    outputs = run_child(child, model_dir, [pad([clips[i] for i in row]) for row in rows])
    worst = {"frames": 0.0, "pooled": difference(outputs["pooled"], expected.pooled_ND)}
    if expected.embed_NE is not None:
        worst["embed"] = difference(outputs.get("embed", np.zeros(0)), expected.embed_NE)
    for number, row in enumerate(rows):
        for place, clip in enumerate(row):
            have = outputs[f"frames_{number}"][place, : outputs[f"len_{number}"][place]]
            worst["frames"] = max(worst["frames"], difference(have, expected.frames[clip]))
    if not max(worst.values()) <= TOLERANCE:
        numbers = ", ".join(f"{name} {value:.2e}" for name, value in worst.items())
        raise ParityError(f"{model_dir} differs from the JAX encoder by {numbers}; allowed is {TOLERANCE:.0e}")
    seconds = round(sum(map(len, clips)) / SAMPLE_RATE, 2)
    return {"clips": len(clips), "seconds": seconds, "tolerance": TOLERANCE, **worst}


def difference(have: np.ndarray, want: np.ndarray) -> float:
    """Largest |have - want|; infinity for another shape or a value that is not finite."""
    if have.shape != want.shape:
        return math.inf
    largest = float(np.max(np.abs(have.astype(np.float64) - want), initial=0.0))
    return largest if math.isfinite(largest) else math.inf


def pad(clips: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(audio_BS int16 padded with zeros, len_B int64)."""
    len_B = np.array([len(clip) for clip in clips], np.int64)
    audio_BS = np.zeros((len(clips), len_B.max()), np.int16)
    for row, clip in zip(audio_BS, clips, strict=True):
        row[: len(clip)] = clip
    return audio_BS, len_B


def run_child(
    script: str, model_dir: str | pathlib.Path, batches: list[tuple[np.ndarray, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Outputs of the export for batches of (audio_BS int16, len_B), by the names of ``torch_module/child.py``.

    Raises:
      ParityError: the process ended with an error; the message is the last line it printed.
    """
    child = pathlib.Path(__file__).parents[1] / "torch_module" / script
    with tempfile.TemporaryDirectory() as temporary:
        source, target = pathlib.Path(temporary) / "in.npz", pathlib.Path(temporary) / "out.npz"
        arrays = {}
        for i, (audio_BS, len_B) in enumerate(batches):
            arrays |= {f"audio_{i}": audio_BS, f"len_{i}": len_B}
        np.savez(source, **arrays)
        command = [sys.executable, "-I", str(child), str(pathlib.Path(model_dir).absolute()), str(source), str(target)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
            raise ParityError(f"the exported model in {model_dir} does not run: {lines[-1]}")
        with np.load(target, allow_pickle=False) as outputs:
            return dict(outputs)
