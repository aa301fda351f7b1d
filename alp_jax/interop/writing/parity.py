"""Proof that a written folder holds the model: read back, and run by the library it was written for."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import jax
import numpy as np

from alp_jax.interop.formats.names import leaf_path
from alp_jax.interop.writing.verify import TIMEOUT_S, TOLERANCE, Expected, ParityError, difference


def same_tensors(params: dict[str, Any], back: dict[str, Any], where: str) -> int:
    """How many tensors there are; raises ParityError for the first one that is not equal bit by bit."""
    have = {leaf_path(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(back)}
    want = {leaf_path(path): np.asarray(leaf, np.float32) for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    for name in sorted(want.keys() ^ have.keys()):
        raise ParityError(f"{where} {'lacks' if name in want else 'has'} {name} when it is read back")
    for name, value in want.items():
        if value.tobytes() != have[name].tobytes() or value.shape != have[name].shape:
            raise ParityError(f"{name} comes back from {where} with other values")
    return len(want)


def same_outputs(expected: Expected, found: Expected, where: str) -> dict[str, float]:
    """Largest |difference| of ``frames``, ``pooled`` and ``embed``; raises ParityError beyond ``TOLERANCE``."""
    pairs = zip(found.frames, expected.frames, strict=True)
    worst = {"frames": max(difference(*pair) for pair in pairs), "pooled": difference(found[1], expected[1])}
    if expected.embed_NE is not None:
        worst["embed"] = difference(found.embed_NE, expected.embed_NE)
    if not max(worst.values()) <= TOLERANCE:
        numbers = ", ".join(f"{name} {value:.2e}" for name, value in worst.items())
        raise ParityError(f"{where}, read back, differs by {numbers}; allowed is {TOLERANCE:.0e}")
    return worst


def same_states(expected: list[np.ndarray], found: list[np.ndarray], where: str) -> float:
    """Largest |difference| of a text tower's outputs; raises ParityError beyond ``TOLERANCE``."""
    worst = max(difference(have, want) for have, want in zip(found, expected, strict=True))
    if not worst <= TOLERANCE:
        raise ParityError(f"{where} computes what differs by {worst:.2e}; allowed is {TOLERANCE:.0e}")
    return worst


def installed(*packages: str) -> bool:
    return all(importlib.util.find_spec(package) is not None for package in packages)


def verify_bert(folder: pathlib.Path, texts: list[str], ids: list[list[int]], hidden: list[np.ndarray]) -> float:
    """Lets transformers load ``folder`` and encode ``texts``, in a process without JAX.

    Args:
      ids: what its tokenizer must make of ``texts``, special tokens included.
      hidden: what its BertModel must compute for each, (L, D).

    Returns:
      The largest |difference| from ``hidden``.

    Raises:
      ParityError: other ids, outputs beyond ``TOLERANCE``, or transformers cannot load the folder.
    """
    child = pathlib.Path(__file__).parents[1] / "torch_module" / "bert_child.py"
    with tempfile.TemporaryDirectory() as temporary:
        source, target = pathlib.Path(temporary) / "in.json", pathlib.Path(temporary) / "out.npz"
        source.write_text(json.dumps({"texts": texts, "ids": ids}))
        command = [sys.executable, "-I", str(child), str(folder), str(source), str(target)]
        offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=os.environ | offline
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
            raise ParityError(f"transformers does not run {folder}: {lines[-1][:300]}")
        with np.load(target, allow_pickle=False) as outputs:
            found = [outputs[f"hidden_{i}"] for i in range(len(texts))]
    return same_states(hidden, found, "transformers")
