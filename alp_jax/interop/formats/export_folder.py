"""Export folders: written next to their final place, checked there, then moved; only exports are ever replaced."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from alp_jax.core import storage
from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json, whole_folder

# which parts of a run each format can hold, the default first
PARTS = {"torch": ("encoder",), "onnx": ("encoder",), "auden": ("model", "encoder"), "hf": ("text", "decoder")}
CONFIG, WEIGHTS, MODULE, README = "config.json", "model.safetensors", "alp_encoder.py", "README.md"
GRAPH = "model.onnx"
WRAPPERS = {"hear": "hear_module.py", "xares": "xares_encoder.py"}  # benchmark suite -> the module that it loads
LEFT_BY_USE = "__pycache__"
WRITTEN_FILES = {CONFIG, WEIGHTS, MODULE, README, GRAPH, *WRAPPERS.values(), LEFT_BY_USE}
WRITTEN_FILES |= {"tokenizer.json", "tokenizer_config.json"}


def check_target(out_dir: str | os.PathLike) -> None:
    """Raises UserError unless an export may be written to ``out_dir``: local, and absent, empty or an export."""
    path = storage.local_path(os.fspath(out_dir))
    if not path.exists():
        return
    if not path.is_dir():
        raise UserError(f"--out {path} is a file: choose another place")
    foreign = sorted({p.name for p in path.iterdir()} - WRITTEN_FILES)
    if foreign:
        raise UserError(f"--out {path} holds {foreign[0]}, which is not from an export: choose another place")
    if any(path.iterdir()):
        read_origin(path)


def read_origin(path: str | os.PathLike) -> dict:
    """The config.json of an export, of any format; UserError when ``path`` is something else."""
    settings = read_json(pathlib.Path(path) / CONFIG, "exported configuration")
    if not isinstance(settings, dict) or not isinstance(settings.get("alp"), dict):
        raise UserError(f"{path} is not an export of alp_jax")
    return settings


@contextlib.contextmanager
def written(out_dir: str | os.PathLike) -> Iterator[pathlib.Path]:
    """An empty folder that becomes ``out_dir`` when the block succeeds and is deleted when it raises.

    Raises:
      UserError: ``out_dir`` holds anything other than an export.
    """
    check_target(out_dir)
    with whole_folder(out_dir) as made:
        yield made
