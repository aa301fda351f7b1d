"""Turns another toolbox's model into a folder like that of a run: ``config.json``, a checkpoint and ``import.json``.

Whatever reads runs can read it: ``config.init``, ``alp eval``, ``alp export``, ``alp embed``.
"""

import dataclasses
import os
import pathlib
from typing import Any

import jax
import numpy as np

import alp_jax
from alp_jax.config import to_dict
from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json, whole_folder, write_bytes, write_json
from alp_jax.core.progress import Progress
from alp_jax.data.text.json_tokenizer import FILE_NAME, read_tokenizer
from alp_jax.interop.formats import auden, hf_text, icefall
from alp_jax.interop.reading.foreign import Imported
from alp_jax.train.checkpoint import Checkpoints

READERS = {"auden": auden.read_folder, "icefall": icefall.read_checkpoint, "hf": hf_text.read_folder}
RECORD = "import.json"
STEP = 0


def import_model(
    toolbox: str, source: pathlib.Path, out_dir: str | os.PathLike, *, data: str, **options: Any
) -> dict[str, Any]:
    """Makes the run folder ``out_dir``.

    Args:
      toolbox: in ``READERS``.
      data: data set that ``alp eval`` and ``alp export`` use by default.
      options: passed on to the reader.

    Returns:
      What ``write_run`` does, and whether the model brought its ``tokenizer``.

    Raises:
      UserError: a folder cannot be read or written as asked; nothing is written.
    """
    check_new(out_dir)
    if not source.exists():
        raise UserError(f"{source} does not exist")
    with Progress("import", 3, "stages", alike=False) as progress:
        model = READERS[toolbox](source, **options)
        progress.update(note="weights read")
        files = _tokenizer_files(source, model)
        progress.update(note="tokenizer read")
        result = write_run(out_dir, model, source=source.resolve().name, files=files, data=data)
        progress.update()
    return {**result, "tokenizer": FILE_NAME in files}


def _tokenizer_files(folder: pathlib.Path, model: Imported) -> dict[str, bytes]:
    """Files of the model's vocabulary, checked against its sizes; none for an encoder alone."""
    text, decoder = "text" in model.params, "decoder" in model.params
    if not (text or decoder):
        return {}
    if not (folder / FILE_NAME).is_file():
        raise UserError(
            f"{folder} has no {FILE_NAME}: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) of transformers "
            "writes one"
        )
    tokenizer = read_tokenizer(folder, captioning=decoder)
    rows = model.config.model.decoder.vocab_size if decoder else model.config.model.text.vocab_size
    if tokenizer.vocab_size > rows or (decoder and tokenizer.vocab_size != rows):
        raise UserError(f"{folder / FILE_NAME} has {tokenizer.vocab_size} tokens, the weights have {rows} rows")
    if text:
        tokenizer.check_wrapping()
    return tokenizer.files()


def check_new(out_dir: str | os.PathLike) -> None:
    """Raises UserError unless ``out_dir`` is absent or an empty folder."""
    path = pathlib.Path(out_dir)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"--out {path} exists already: choose another place")


def write_run(
    out_dir: str | os.PathLike, model: Imported, *, source: str, files: dict[str, bytes], data: str
) -> dict[str, Any]:
    """Writes the folder next to ``out_dir`` and moves it into place.

    Args:
      source: what was imported, for the record.
      files: tokenizer files by name; ``tokenizer.json`` becomes the tokenizer of the run.
      data: data set that ``alp eval`` and ``alp export`` use by default.

    Returns:
      ``out``, ``model_type``, ``parameters``, ``left_out`` and ``converted`` (names and types).

    Raises:
      UserError: ``out_dir`` is neither absent nor empty.
    """
    check_new(out_dir)
    tokenizer = str(pathlib.Path(out_dir).absolute() / FILE_NAME) if FILE_NAME in files else ""
    settings = dataclasses.replace(model.config.data, path=data, tokenizer=tokenizer)
    params = jax.tree.map(np.asarray, model.params)
    with whole_folder(out_dir) as made:
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
    return {
        "out": str(out_dir),
        "model_type": model.model_type,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "left_out": list(model.left_out),
        "converted": model.converted,
    }


def imported_lines(result: dict[str, Any]) -> list[str]:
    """A result of ``import_model`` as lines to print: what was made, then whatever was dropped or converted."""
    lines = [f"{result['out']}: {result['model_type']}, {result['parameters']} parameters"]
    if result["converted"]:
        kinds = ", ".join(sorted(set(result["converted"].values())))
        lines.append(f"converted to float32: {len(result['converted'])} tensors of {kinds}")
    if result["left_out"]:
        shown = ", ".join(result["left_out"][:8]) + (", ..." if len(result["left_out"]) > 8 else "")
        lines.append(f"left out: {len(result['left_out'])} tensors ({shown}); import.json lists them")
    return lines


def read_record(run_dir: str | os.PathLike) -> dict[str, Any] | None:
    """What ``write_run`` noted about the folder; None for a run that was trained here."""
    path = pathlib.Path(run_dir) / RECORD
    return read_json(path, "record of the import") if path.exists() else None
