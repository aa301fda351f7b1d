"""An imported model as a folder like that of a run: ``config.json``, one checkpoint, and ``import.json`` about itself.

What reads runs reads it too: ``config.init``, ``alp eval``, ``alp export``, ``alp embed``.
"""

import dataclasses
import os
import pathlib
import tempfile
from typing import Any

import jax
import numpy as np

import alp_jax
from alp_jax.config import to_dict
from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json, write_bytes, write_json
from alp_jax.interop.reading.foreign import Imported
from alp_jax.train.checkpoint import Checkpoints

RECORD = "import.json"
STEP = 0


def check_new(out_dir: str | os.PathLike) -> None:
    """Raises UserError unless ``out_dir`` is absent or an empty folder."""
    path = pathlib.Path(out_dir)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"--out {path} exists already: choose another place")


def write_run(
    out_dir: str | os.PathLike, model: Imported, *, source: str, files: dict[str, bytes], data: str
) -> dict[str, Any]:
    """Writes the folder beside ``out_dir`` and moves it into place.

    Args:
      source: what was imported, for the record.
      files: tokenizer files by name; ``tokenizer.json`` becomes the tokenizer of the run.
      data: data set that ``alp eval`` and ``alp export`` take by default.

    Returns:
      ``out``, ``model_type``, ``parameters``, ``left_out`` and ``converted`` (names and types).

    Raises:
      UserError: ``out_dir`` holds something.
    """
    check_new(out_dir)
    out = pathlib.Path(out_dir).absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    tokenizer = str(out / "tokenizer.json") if "tokenizer.json" in files else ""
    settings = dataclasses.replace(model.config.data, path=data, tokenizer=tokenizer)
    params = jax.tree.map(np.asarray, model.params)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        made = pathlib.Path(temporary) / "run"
        made.mkdir()
        write_json(made / "config.json", to_dict(dataclasses.replace(model.config, data=settings)))
        for name, content in files.items():
            write_bytes(made / name, content)
        record = {
            "alp_jax": alp_jax.__version__,
            "source": source,
            "model_type": model.model_type,
            "settings": model.settings,
            "batch_count": model.batch_count,
            "left_out": list(model.left_out),
            "converted": model.converted,
        }
        write_json(made / RECORD, record)
        checkpoints = Checkpoints(made, keep=1)
        checkpoints.save(STEP, {"params": params}, {"imported": source})
        checkpoints.close()
        if out.exists():
            out.rmdir()
        os.rename(made, out)
    return {
        "out": str(out_dir),
        "model_type": model.model_type,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "left_out": list(model.left_out),
        "converted": model.converted,
    }


def read_record(run_dir: str | os.PathLike) -> dict[str, Any] | None:
    """What ``write_run`` noted about the folder; None for a run that was trained here."""
    path = pathlib.Path(run_dir) / RECORD
    return read_json(path, "record of the import") if path.exists() else None
