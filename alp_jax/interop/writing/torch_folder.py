"""A trained audio encoder as a folder for PyTorch: weights, settings, one module file, and a README on its use."""

import ast
import os
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save

from alp_jax.config import RunConfig, to_dict
from alp_jax.core.errors import UserError
from alp_jax.core.files import write_bytes, write_json, write_text
from alp_jax.interop.formats.export_folder import (
    CONFIG,
    LEFT_BY_USE,
    MODULE,
    README,
    WEIGHTS,
    WRAPPERS,
    read_origin,
    written,
)
from alp_jax.interop.formats.names import to_torch
from alp_jax.interop.writing.readme import torch_readme
from alp_jax.interop.writing.run import Run
from alp_jax.models.encoders import output_dim, require_export

_PACKAGE = "alp_jax.interop.torch_module"
_SOURCES = pathlib.Path(__file__).parents[1] / "torch_module"
_PARTS = ("logmel", "layers", "zipformer", "encoder")  # each needs only those before it


def single_file() -> str:
    """The parts of ``torch_module`` as one file: header and docstring of the last part, imports once, then the code."""
    imports, bodies = set(), []
    header = ""
    for part in _PARTS:
        source = (_SOURCES / f"{part}.py").read_text(encoding="utf-8")
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


def require_module(run: Run) -> None:
    """Raises UserError unless the module can hold the encoder of ``run``."""
    if "encoder" not in run.params:
        raise UserError("the run holds a text tower only: there is no audio encoder to export")
    require_export(run.config.model)


def describe(config: RunConfig, kind: str, origin: dict[str, Any]) -> dict[str, Any]:
    """Content of the export's config.json: keys of the reference, then ``features`` and ``alp`` (where it is from)."""
    encoder = {"model_type": "zipformer", **to_dict(config.model.encoder)}
    features = config.features
    head = {"model_type": "clap", "audio_encoder_config": encoder, "shared_emb_dim": config.model.shared_emb_dim}
    return {
        **(head if kind == "clap" else encoder),
        "features": {name: getattr(features, name) for name in ("num_mel_bins", "low_hz", "high_hz")},
        "alp": origin,
    }


def write_module(folder: str | os.PathLike, run: Run, **more: Any) -> tuple[str, dict[str, Any]]:
    """Writes weights, settings and module of the audio side into ``folder``.

    A model trained against text is of type ``clap`` and keeps its audio projection; others are ``zipformer``.

    Args:
      more: what its config.json keeps besides ``run.origin``.

    Returns:
      (model_type, origin with the number of ``parameters``).

    Raises:
      UserError: see ``require_module``.
    """
    require_module(run)
    sides = {name: run.params[name] for name in ("encoder", "audio_proj") if name in run.params}
    sides = jax.tree.map(lambda x: np.asarray(x, np.float32), sides)
    kind = "clap" if "audio_proj" in sides else "zipformer"
    state = to_torch(sides if kind == "clap" else sides["encoder"], kind)
    origin = run.origin(**more, parameters=sum(value.size for value in state.values()))
    write_bytes(pathlib.Path(folder) / WEIGHTS, save(state))
    write_json(pathlib.Path(folder) / CONFIG, describe(run.config, kind, origin))
    write_text(pathlib.Path(folder) / MODULE, single_file())
    return kind, origin


def write_torch(
    out_dir: str | os.PathLike,
    run: Run,
    check: Callable[[pathlib.Path], dict[str, Any]],
    wrappers: Sequence[str] = (),
    chosen: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes the export next to ``out_dir``, lets ``check`` approve it, then moves it into place.

    Args:
      check: is given the finished folder; returns what it measured or raises, in which case nothing is left behind.
      wrappers: names in ``export_folder.WRAPPERS`` whose modules are written too.
      chosen: how the run was chosen among others, kept in config.json; its ``rule`` and ``next`` are in the README.

    Returns:
      ``out``, ``model_type``, ``parameters``, ``width`` and what ``check`` measured.

    Raises:
      UserError: ``out_dir`` holds anything other than an export.
    """
    with written(out_dir) as made:
        kind, origin = write_module(made, run, chosen=chosen)
        # before the README, which quotes what was measured; a folder that differs is never moved into place
        measured = check(made)
        width = output_dim(run.config.model)
        for name in wrappers:
            write_text(made / WRAPPERS[name], (_SOURCES / WRAPPERS[name]).read_text(encoding="utf-8"))
        write_text(made / README, torch_readme(origin, kind, measured, width=width, wrappers=wrappers))
    return {
        "out": str(out_dir),
        "model_type": kind,
        "parameters": origin["parameters"],
        "width": width,
        **measured,
    }


def check_export(path: str | os.PathLike) -> dict[str, Any]:
    """The config.json of what ``write_torch`` wrote; UserError when ``path`` is anything else."""
    settings = read_origin(path)
    if not (pathlib.Path(path) / MODULE).is_file():
        raise UserError(f"{path} is not an export of alp_jax with a PyTorch module")
    return settings


def remove_export(path: str | os.PathLike) -> None:
    """Deletes what ``write_torch`` wrote, and the folder if that leaves it empty."""
    path = pathlib.Path(path)
    for name in (WEIGHTS, CONFIG, MODULE, README, *WRAPPERS.values()):
        (path / name).unlink(missing_ok=True)
    shutil.rmtree(path / LEFT_BY_USE, ignore_errors=True)
    if not any(path.iterdir()):
        path.rmdir()
