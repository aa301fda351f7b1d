"""Proof that a written folder holds the model: read back, and run by what it was written for, without JAX."""

import json
import math
import pathlib
import tempfile
from typing import Any

import jax
import numpy as np

from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import AlpError
from alp_jax.interop.formats.names import leaf_path
from alp_jax.interop.isolated.process import require, run_isolated
from alp_jax.interop.writing.compare import Expected, padded

TOLERANCE = 1e-4  # largest |difference| of float32 outputs


class ParityError(AlpError):
    """The exported model does not compute what it should, or does not run."""


def difference(have: np.ndarray, want: np.ndarray) -> float:
    """Largest |have - want|; infinity for different shapes or a value that is not finite."""
    if have.shape != want.shape:
        return math.inf
    # NaN passes through max, and infinity minus infinity is NaN: both end as infinity, which no tolerance allows
    largest = float(np.max(np.abs(have.astype(np.float64) - want), initial=0.0))
    return largest if math.isfinite(largest) else math.inf


def within_tolerance(worst: dict[str, float], label: str) -> dict[str, float]:
    """Returns ``worst``; raises ParityError with its numbers when one is beyond ``TOLERANCE``."""
    # ``not <=`` also refuses NaN, which ``>`` would let pass
    if not max(worst.values()) <= TOLERANCE:
        numbers = ", ".join(f"{name} {value:.2e}" for name, value in worst.items())
        raise ParityError(f"{label} differs from JAX by {numbers}; allowed is {TOLERANCE:.0e}")
    return worst


def same_tensors(params: dict[str, Any], back: dict[str, Any]) -> int:
    """The number of tensors; raises ParityError for the first that the written folder does not give back bit by bit."""
    have = {leaf_path(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(back)}
    want = {leaf_path(path): np.asarray(leaf, np.float32) for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    for name in sorted(want.keys() ^ have.keys()):
        raise ParityError(f"the written folder {'lacks' if name in want else 'has'} {name} when it is read back")
    for name, value in want.items():
        # bytes, not values: -0.0 equals 0.0, and NaN does not equal itself; bytes alone do not say the shape
        if value.tobytes() != have[name].tobytes() or value.shape != have[name].shape:
            raise ParityError(f"{name} comes back from the written folder with different values")
    return len(want)


def same_outputs(expected: Expected, actual: Expected, label: str) -> dict[str, float]:
    """Largest |difference| of ``frames``, ``pooled`` and ``embed`` (where there is one).

    Raises:
      ParityError: one is beyond ``TOLERANCE``.
    """
    frames = max(difference(have, want) for have, want in zip(actual.frames, expected.frames, strict=True))
    worst = {"frames": frames, "pooled": difference(actual.pooled_ND, expected.pooled_ND)}
    if expected.embed_NE is not None:  # an export that lost it is compared as an empty array: infinitely far
        worst["embed"] = difference(np.zeros(0) if actual.embed_NE is None else actual.embed_NE, expected.embed_NE)
    return within_tolerance(worst, label)


def same_states(expected: list[np.ndarray], actual: list[np.ndarray], label: str) -> float:
    """Largest |difference| of a text tower's outputs; ParityError beyond ``TOLERANCE``."""
    worst = max(difference(have, want) for have, want in zip(actual, expected, strict=True))
    return within_tolerance({"hidden": worst}, label)["hidden"]


def verify(
    model_dir: str | pathlib.Path, clips: list[np.ndarray], expected: Expected, *, runtime: str = "torch"
) -> dict[str, Any]:
    """Compares the export in ``model_dir`` with ``expected`` on ``clips``, each alone and all padded in one batch.

    Args:
      clips: int16 samples at 16 kHz.
      runtime: what runs the export, ``torch`` or ``onnx``.

    Returns:
      ``about_clips`` and the largest |difference| of ``frames``, ``pooled`` and ``embed`` (absent when the model has
      none).

    Raises:
      UserError: PyTorch is not installed.
      ParityError: the export does not run, or differs by more than ``TOLERANCE``; the message has the numbers.
    """
    require("torch", user="the check of an export", extras="torch")
    # alone first: the last batch, in which padding could leak between clips, gives the vectors of whole clips
    rows = [[i] for i in range(len(clips))] + [list(range(len(clips)))]
    arrays = {}
    for number, row in enumerate(rows):
        audio_BS, len_B = padded([clips[i] for i in row], np.int16)
        arrays |= {f"audio_{number}": audio_BS, f"len_{number}": len_B.astype(np.int64)}
    with tempfile.TemporaryDirectory() as temporary:
        source, target = pathlib.Path(temporary) / "in.npz", pathlib.Path(temporary) / "out.npz"
        np.savez(source, **arrays)
        problem = f"the exported model in {model_dir} does not run"
        folder = pathlib.Path(model_dir).absolute()
        run_isolated("encode.py", runtime, folder, source, target, problem=problem, error=ParityError)
        with np.load(target, allow_pickle=False) as file:
            outputs = dict(file)
    actual, wanted = [], []
    for number, row in enumerate(rows):
        frames = zip(outputs[f"frames_{number}"], outputs[f"len_{number}"], strict=True)
        actual += [frames_TD[:length] for frames_TD, length in frames]
        wanted += [expected.frames[i] for i in row]
    made = Expected(actual, outputs["pooled"], outputs.get("embed"))
    return about_clips(clips) | same_outputs(expected._replace(frames=wanted), made, str(model_dir))


def about_clips(clips: list[np.ndarray]) -> dict[str, Any]:
    """``clips``, ``seconds`` of audio and the ``tolerance`` that every difference stays within."""
    return {"clips": len(clips), "seconds": round(sum(map(len, clips)) / SAMPLE_RATE, 2), "tolerance": TOLERANCE}


def verify_bert(folder: pathlib.Path, texts: list[str], ids: list[list[int]], hidden: list[np.ndarray]) -> float:
    """Lets transformers load ``folder`` and encode ``texts``, in a process without JAX.

    Args:
      ids: what its tokenizer must make of ``texts``, special tokens included.
      hidden: what its BertModel must compute for each, (L, D).

    Returns:
      The largest |difference| from ``hidden``.

    Raises:
      ParityError: different ids, outputs beyond ``TOLERANCE``, or transformers cannot load the folder.
    """
    with tempfile.TemporaryDirectory() as temporary:
        source, target = pathlib.Path(temporary) / "in.json", pathlib.Path(temporary) / "out.npz"
        source.write_text(json.dumps({"texts": texts, "ids": ids}))
        problem = f"transformers does not run {folder}"
        offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        run_isolated("encode_texts.py", folder, source, target, problem=problem, error=ParityError, **offline)
        with np.load(target, allow_pickle=False) as outputs:
            states = [outputs[f"hidden_{i}"] for i in range(len(texts))]
    return same_states(hidden, states, "transformers")
