"""A trained audio encoder as one ONNX graph: waveforms in, clip and frame embeddings out, run by onnxruntime."""

import importlib.util
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from alp_jax.config import RunConfig
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError
from alp_jax.core.files import write_json, write_text
from alp_jax.interop.formats.export_folder import CONFIG, GRAPH, README, written
from alp_jax.interop.writing.export import describe, write_module
from alp_jax.interop.writing.verify import TIMEOUT_S, ParityError

MAX_BYTES = 2**31 - 2**20  # of weights; a file of protobuf ends at 2 GiB

_INPUTS = {
    "audio": "float32 (batch, samples): mono in [-1, 1] at sample_rate, clips padded to one length with anything",
    "lengths": "int64 (batch,): samples of each clip, from 80 to the samples of audio",
}
_OUTPUTS = {
    "pooled": "float32 (batch, {width}): mean of the clip's frames",
    "frames": "float32 (batch, time, {width}): one vector every 40 ms, the first of the sound around 55 ms",
    "frame_lengths": "int64 (batch,): frames of each clip; those behind mean nothing",
    "embed": "float32 (batch, {shared}): unit vector in the space of captions",
}
_README = """# Audio encoder as an ONNX graph

{parameters} parameters, pretrained with the {objective} objective (run {run}, step {step}). Needs a runtime of ONNX
(opset 17) and nothing else; the features are part of the graph.

```python
import numpy, onnxruntime
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
audio = numpy.zeros((2, 32000), numpy.float32)    # mono, {rate} samples per second, in [-1, 1]
lengths = numpy.array([32000, 20000])             # samples of each clip
wanted = ["pooled", "frames", "frame_lengths"]
pooled, frames, frame_lengths = session.run(wanted, {{"audio": audio, "lengths": lengths}})
```

{lines}

Any number of clips of any lengths from 80 samples; what a clip gives does not depend on its batch. Memory grows with
the square of the longest clip, as attention does. The spectrum is computed in float64 (quiet sounds need it), so a
runtime without it cannot run the graph.

Largest difference from the JAX encoder in onnxruntime over {clips} clips, each alone and all in a batch: frames
{frames:.1e}, clip means {pooled:.1e} (allowed {tolerance:.0e}).
"""


def require_onnx() -> None:
    """Raises UserError unless what writes and runs graphs is installed."""
    for package in ("torch", "onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"--format onnx needs {package}, which is not installed: pip install 'alp_jax[torch,onnx]'")


def write_onnx(
    out_dir: str | pathlib.Path,
    params: dict[str, Any],
    config: RunConfig,
    *,
    run: str,
    step: int,
    since: int | None = None,
    check: Callable[[pathlib.Path, str], dict[str, Any]],
) -> dict[str, Any]:
    """Writes model.onnx, config.json and README.md beside ``out_dir``, and moves them there when ``check`` approves.

    Args:
      params: parameters of the whole model, nested dictionaries of arrays.
      run, step, since: where they are from; ``since``: they are the mean over the steps after that one.
      check: is given the folder and the name of what runs it, as ``verify.verify`` is; returns its findings or raises.

    Returns:
      ``out``, ``format``, ``model_type``, ``parameters``, ``width`` and what ``check`` found.

    Raises:
      UserError: ``out_dir`` holds something else than an export, or the model cannot be one graph.
      ParityError: the graph cannot be written or run, or differs; nothing is left.
    """
    mean = {} if since is None else {"since": since}
    origin = {"run": run, "step": step, **mean, "objective": config.objective.name}
    with written(out_dir) as made, tempfile.TemporaryDirectory(dir=made.parent) as module:
        kind, count = write_module(pathlib.Path(module), params, config, origin)
        if 4 * count > MAX_BYTES:
            raise UserError(f"{count} float32 parameters exceed the 2 GiB of an ONNX file: use --format torch")
        _trace(module, made / GRAPH)
        width, about = max(config.model.encoder.encoder_dim), {"format": "onnx", **origin, "parameters": count}
        names = {"width": width, "shared": config.model.shared_emb_dim}
        outputs = {name: text.format(**names) for name, text in _OUTPUTS.items() if name != "embed" or kind == "clap"}
        interface = {"sample_rate": SAMPLE_RATE, "inputs": _INPUTS, "outputs": outputs}
        write_json(made / CONFIG, describe(config, kind, about) | {"onnx": interface})
        found = check(made, "onnx_session.py")
        lines = "\n".join(f"- `{name}`: {text}" for name, text in (_INPUTS | outputs).items())
        write_text(made / README, _README.format(**about, **found, rate=SAMPLE_RATE, lines=lines))
    return {"out": str(out_dir), "format": "onnx", "model_type": kind, "parameters": count, "width": width, **found}


def _trace(module: str, target: pathlib.Path) -> None:
    child = pathlib.Path(__file__).parents[1] / "torch_module" / "onnx_child.py"
    command = [sys.executable, "-I", str(child), module, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise ParityError(f"PyTorch cannot write the encoder as an ONNX graph: {lines[-1][:300]}")
