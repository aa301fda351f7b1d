"""A trained audio encoder as a folder for PyTorch: weights, settings, one module file, a few lines of use."""

import ast
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save

import alp_jax
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
from alp_jax.interop.formats.reference import require_zipformer

_PACKAGE = "alp_jax.interop.torch_module"
_PARTS = ("logmel", "layers", "zipformer", "encoder")  # in the order in which they need one another

_USES = {
    "hear": "HEAR 2021: `hear_module.py` is the module, this folder the model file: `hear-validator hear_module -m .`",
    "xares": "X-ARES: `xares_encoder.py` is the encoder; the suite wants its path relative to where it is started.",
}

Check = Callable[[pathlib.Path], dict[str, Any]]


def single_file() -> str:
    """The parts of ``torch_module`` as one file: header and docstring of the last part, imports once, then the code."""
    folder, imports, bodies = pathlib.Path(__file__).parents[1] / "torch_module", set(), []
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


def require_module(params: dict[str, Any], config: RunConfig) -> None:
    """Raises UserError unless the module can hold the encoder of ``params``."""
    if "encoder" not in params:
        raise UserError("the run holds a text tower only: there is no audio encoder to export")
    require_zipformer(config.model)


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


def check_export(path: str | pathlib.Path) -> dict[str, Any]:
    """The config.json of what ``write_export`` wrote; UserError when ``path`` is something else."""
    settings = read_origin(path)
    if not (pathlib.Path(path) / MODULE).is_file():
        raise UserError(f"{path} is no export of alp_jax with a module for PyTorch")
    return settings


def remove_export(path: str | pathlib.Path) -> None:
    """Deletes what ``write_export`` wrote, and the folder when nothing else is in it."""
    path = pathlib.Path(path)
    for name in (WEIGHTS, CONFIG, MODULE, README, *WRAPPERS.values()):
        (path / name).unlink(missing_ok=True)
    shutil.rmtree(path / LEFT_BY_USE, ignore_errors=True)
    if not any(path.iterdir()):
        path.rmdir()


def write_export(
    out_dir: str | pathlib.Path,
    params: dict[str, Any],
    config: RunConfig,
    *,
    run: str,
    step: int,
    check: Check,
    wrappers: Sequence[str] = (),
    since: int | None = None,
    chosen: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes the export beside ``out_dir``, lets ``check`` approve it, then moves it into place.

    Args:
      params: parameters of the whole model, nested dictionaries of arrays.
      run, step, since: where they are from; ``since``: they are the mean over the steps after that one.
      check: is given the finished folder; returns its findings or raises, in which case nothing is left behind.
      wrappers: names in ``outbox.WRAPPERS``, whose modules are written beside.
      chosen: how the run was chosen among others, kept in config.json; its ``rule`` and ``next`` are in the README.

    Returns:
      ``out``, ``model_type``, ``parameters``, ``width`` and what ``check`` found.

    Raises:
      UserError: ``out_dir`` holds something else than an export.
    """
    with written(out_dir) as made:
        source = {"run": run, "step": step} | ({} if since is None else {"since": since})
        source |= {} if chosen is None else {"chosen": chosen}
        kind, count = write_module(made, params, config, source)
        found = check(made)
        width = max(config.model.encoder.encoder_dim)
        origin = {"run": run, "step": step, "objective": config.objective.name, "parameters": count}
        for name in wrappers:
            module = pathlib.Path(__file__).parents[1] / "torch_module" / WRAPPERS[name]
            write_text(made / WRAPPERS[name], module.read_text(encoding="utf-8"))
        write_text(made / README, _readme(origin, width, kind, found, wrappers) + _why(chosen))
    return {"out": str(out_dir), "model_type": kind, "parameters": count, "width": width, **found}


def _why(chosen: dict[str, Any] | None) -> str:
    """Why this run and no other, for the README."""
    if chosen is None:
        return ""
    behind = "; ".join(f"{other['run']} {other['score']:.4f}" for other in chosen["next"])
    text = f"The best of {chosen['runs']} runs, score {chosen['score']:.4f}: {chosen['rule']}."
    return f"\n{text}" + (f" Next: {behind}." if behind else "") + f"\nResults: {', '.join(chosen['results'])}.\n"


def write_module(
    folder: pathlib.Path, params: dict[str, Any], config: RunConfig, origin: dict[str, Any]
) -> tuple[str, int]:
    """Writes weights, settings and module of the audio side into ``folder``: (model_type, number of parameters).

    Raises:
      UserError: see ``require_module``.
    """
    require_module(params, config)
    kind, state = encoder_state(params)
    count = sum(value.size for value in state.values())
    origin = {**origin, "objective": config.objective.name, "parameters": count}
    write_bytes(folder / WEIGHTS, save(state))
    write_json(folder / CONFIG, describe(config, kind, origin))
    write_text(folder / MODULE, single_file())
    return kind, count


def _readme(origin: dict[str, Any], width: int, kind: str, found: dict[str, Any], wrappers: Sequence[str]) -> str:
    last = "\nunit = encoder.embed_audio(audio, audio_len)  # in the space of captions" if kind == "clap" else ""
    use = "".join(f"\n{_USES[name]}\n" for name in wrappers)
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
{use}"""
