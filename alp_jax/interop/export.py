"""A trained audio encoder as a folder for PyTorch: weights, settings, one module file, a few lines of use."""

import ast
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save

import alp_jax
from alp_jax.config import RunConfig, to_dict
from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json, write_bytes, write_json, write_text
from alp_jax.interop.names import to_torch

WEIGHTS, CONFIG, MODULE, README = "model.safetensors", "config.json", "alp_encoder.py", "README.md"
_LEFT_BY_USE = "__pycache__"
_PACKAGE = "alp_jax.interop.torch_module"
_PARTS = ("logmel", "layers", "zipformer", "encoder")  # in the order in which they need one another

Check = Callable[[pathlib.Path], dict[str, Any]]


def single_file() -> str:
    """The parts of ``torch_module`` as one file: header and docstring of the last part, imports once, then the code."""
    folder, imports, bodies = pathlib.Path(__file__).parent / "torch_module", set(), []
    header = ""
    for part in _PARTS:
        source = (folder / f"{part}.py").read_text(encoding="utf-8")
        lines, tree = source.splitlines(), ast.parse(source)
        at_top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        imports |= {ast.unparse(node) for node in at_top if not ast.unparse(node).startswith(f"from {_PACKAGE}")}
        bodies.append("\n".join(lines[at_top[-1].end_lineno :]).strip())
        header = "\n".join(lines[: tree.body[0].end_lineno])
    # "import x" before "from x import y", the standard library before torch
    ordered = sorted(imports, key=lambda line: ("torch" in line, line.startswith("from"), line))
    first_torch = next(i for i, line in enumerate(ordered) if "torch" in line)
    ordered.insert(first_torch, "")
    return "\n".join([header, "", *ordered, ""]) + "\n" + "\n\n\n".join(bodies) + "\n"


def encoder_state(params: dict[str, Any]) -> tuple[str, dict[str, np.ndarray]]:
    """(model_type, state dict of the audio side in the reference's names) of a whole model's parameters.

    A model trained against text is of type ``clap`` and keeps its audio projection; others are ``zipformer``.
    """
    params = jax.tree.map(lambda x: np.asarray(x, np.float32), params)
    if "audio_proj" not in params:
        return "zipformer", to_torch(params["encoder"], "zipformer")
    return "clap", to_torch({"encoder": params["encoder"], "audio_proj": params["audio_proj"]}, "clap")


def describe(config: RunConfig, kind: str, origin: dict[str, Any]) -> dict[str, Any]:
    """Content of the export's config.json: keys of the reference, then ``features`` and ``alp`` (where it is from)."""
    encoder = {"model_type": "zipformer", **to_dict(config.model.encoder)}
    features = config.features
    head = {"model_type": "clap", "audio_encoder_config": encoder, "shared_emb_dim": config.model.shared_emb_dim}
    return {
        **(head if kind == "clap" else encoder),
        "features": {
            "num_mel_bins": features.num_mel_bins,
            "low_hz": features.low_hz,
            "high_hz": features.high_hz,
        },
        "alp": {"version": alp_jax.__version__, "model": config.model.name, **origin},
    }


def check_target(out_dir: str | pathlib.Path) -> None:
    """Raises UserError unless an export may be written to ``out_dir``: absent, empty, or an earlier export."""
    path = pathlib.Path(out_dir)
    if not path.exists():
        return
    if not path.is_dir():
        raise UserError(f"--out {path} is a file: choose another place")
    foreign = sorted({p.name for p in path.iterdir()} - {WEIGHTS, CONFIG, MODULE, README, _LEFT_BY_USE})
    if foreign:
        raise UserError(f"--out {path} holds {foreign[0]}, which no export wrote: choose another place")
    if any(path.iterdir()):
        check_export(path)


def check_export(path: str | pathlib.Path) -> dict[str, Any]:
    """The config.json of an export; UserError when ``path`` is something else."""
    path = pathlib.Path(path)
    settings = read_json(path / CONFIG, "exported configuration")
    if not isinstance(settings, dict) or "alp" not in settings or not (path / MODULE).is_file():
        raise UserError(f"{path} is no export of alp_jax")
    return settings


def remove_export(path: str | pathlib.Path) -> None:
    """Deletes what ``write_export`` wrote, and the folder when nothing else is in it."""
    path = pathlib.Path(path)
    for name in (WEIGHTS, CONFIG, MODULE, README):
        (path / name).unlink(missing_ok=True)
    shutil.rmtree(path / _LEFT_BY_USE, ignore_errors=True)
    if not any(path.iterdir()):
        path.rmdir()


def write_export(
    out_dir: str | pathlib.Path, params: dict[str, Any], config: RunConfig, *, run: str, step: int, check: Check
) -> dict[str, Any]:
    """Writes the export beside ``out_dir``, lets ``check`` approve it, then moves it into place.

    Args:
      params: parameters of the whole model, nested dictionaries of arrays.
      run, step: where they are from.
      check: is given the finished folder; returns its findings or raises, in which case nothing is left behind.

    Returns:
      ``out``, ``model_type``, ``parameters``, ``width`` and what ``check`` found.

    Raises:
      UserError: ``out_dir`` holds something else than an export.
    """
    check_target(out_dir)
    out = pathlib.Path(out_dir).absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    kind, state = encoder_state(params)
    count = sum(value.size for value in state.values())
    origin = {"run": run, "step": step, "objective": config.objective.name, "parameters": count}
    width = max(config.model.encoder.encoder_dim)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        made = pathlib.Path(temporary) / "export"
        made.mkdir()
        write_bytes(made / WEIGHTS, save(state))
        write_json(made / CONFIG, describe(config, kind, origin))
        write_text(made / MODULE, single_file())
        found = check(made)
        write_text(made / README, _readme(origin, width, kind, found))
        if out.exists():
            os.rename(out, pathlib.Path(temporary) / "before")
        os.rename(made, out)
    return {"out": str(out_dir), "model_type": kind, "parameters": count, "width": width, **found}


def _readme(origin: dict[str, Any], width: int, kind: str, found: dict[str, Any]) -> str:
    last = "\nunit = encoder.embed_audio(audio, audio_len)  # in the space of captions" if kind == "clap" else ""
    return f"""# Audio encoder

{origin["parameters"]} parameters, pretrained with the {origin["objective"]} objective (run {origin["run"]}, step
{origin["step"]}). Needs PyTorch only; `alp_encoder.py` explains the arguments.

```python
from alp_encoder import AlpEncoder
encoder = AlpEncoder.from_pretrained(".")
frames, frame_len = encoder(audio, audio_len)  # 25 vectors of {width} numbers per second{last}
```

Largest difference from the JAX encoder over {found["clips"]} clips: frames {found["frames"]:.1e}, clip means
{found["pooled"]:.1e} (allowed {found["tolerance"]:.0e}).
"""
