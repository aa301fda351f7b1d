"""A trained audio encoder as one graph in ONNX (Open Neural Network Exchange): waveforms in, embeddings out."""

import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError
from alp_jax.core.files import write_json, write_text
from alp_jax.interop.formats.export_folder import CONFIG, GRAPH, README, written
from alp_jax.interop.isolated.process import run_isolated
from alp_jax.interop.writing.parity import ParityError
from alp_jax.interop.writing.readme import onnx_readme
from alp_jax.interop.writing.run import Run
from alp_jax.interop.writing.torch_folder import describe, write_module
from alp_jax.models.encoders import output_dim

MAX_BYTES = 2**31 - 2**20  # of weights; a protobuf file cannot exceed 2 GiB

_INPUTS = {
    "audio": "float32 (batch, samples): mono in [-1, 1] at sample_rate, clips padded to one length with anything",
    "lengths": "int64 (batch,): samples of each clip, from 80 to the samples of audio",
}
_OUTPUTS = {
    "pooled": "float32 (batch, {width}): mean of the clip's frames",
    "frames": "float32 (batch, time, {width}): one vector every 40 ms, the first of the sound around 55 ms",
    "frame_lengths": "int64 (batch,): frames of each clip; what follows them is padding",
    "embed": "float32 (batch, {shared}): unit vector in the space of captions",
}


def write_onnx(out_dir: str | os.PathLike, run: Run, check: Callable[[pathlib.Path], dict[str, Any]]) -> dict[str, Any]:
    """Writes model.onnx, config.json and README.md next to ``out_dir``; moves them there when ``check`` approves.

    Args:
      check: is given the folder; returns what it measured or raises.

    Returns:
      ``out``, ``format``, ``model_type``, ``parameters``, ``width`` and what ``check`` measured.

    Raises:
      UserError: ``out_dir`` holds anything other than an export, or the model cannot be one graph.
      ParityError: the graph cannot be written or run, or differs; nothing is left.
    """
    with written(out_dir) as made, tempfile.TemporaryDirectory(dir=made.parent) as module:
        # a trace of the PyTorch module that exports contain: one implementation, compared in both forms
        kind, origin = write_module(module, run, format="onnx")
        count, width = origin["parameters"], output_dim(run.config.model)
        if 4 * count > MAX_BYTES:
            raise UserError(f"{count} float32 parameters exceed the 2 GiB of an ONNX file: use --format torch")
        problem = "PyTorch cannot write the encoder as an ONNX graph"
        run_isolated("trace_onnx.py", module, made / GRAPH, problem=problem, error=ParityError)
        sizes = {"width": width, "shared": run.config.model.shared_emb_dim}
        outputs = {name: text.format(**sizes) for name, text in _OUTPUTS.items() if name != "embed" or kind == "clap"}
        interface = {"sample_rate": SAMPLE_RATE, "inputs": _INPUTS, "outputs": outputs}
        write_json(made / CONFIG, describe(run.config, kind, origin) | {"onnx": interface})
        measured = check(made)
        write_text(made / README, onnx_readme(origin, measured, rate=SAMPLE_RATE, arrays=_INPUTS | outputs))
    return {"out": str(out_dir), "format": "onnx", "model_type": kind, "parameters": count, "width": width, **measured}
