"""Where a run's tokenizer and data set are now: run folders are copied to machines that have neither."""

import dataclasses
import os
import pathlib

from alp_jax.config import RunConfig
from alp_jax.core import storage
from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json
from alp_jax.core.run_files import ENVIRONMENT
from alp_jax.data.store.schema import INFO
from alp_jax.data.text.open import open_tokenizer, tokenizer_path
from alp_jax.data.text.tokenizer import FILE_NAME, FILE_NAMES, Tokenizer


def data_place(run_dir: str | os.PathLike, config: RunConfig) -> str | None:
    """The data set that a run was trained on: as its configuration names it, seen from here, or where it lay then.

    None when it is in neither place.
    """
    stated = [config.data.path]
    environment = pathlib.Path(run_dir) / ENVIRONMENT
    if environment.exists():
        stated.append(read_json(environment, "run environment").get("data", ""))
    return next((place for place in stated if place and storage.size(storage.join(place, INFO)) >= 0), None)


def require_data(run_dir: str | os.PathLike, config: RunConfig) -> str:
    """``data_place``; UserError when the data set is not here."""
    place = data_place(run_dir, config)
    if place is None:
        raise UserError(f"{run_dir} was trained on data set {config.data.path}, which is not here: name one by --data")
    return place


def run_tokenizer(run_dir: str | os.PathLike, config: RunConfig, data: storage.Location) -> Tokenizer:
    """The tokenizer of a run: the copy in its folder, or, for runs that have none, where it was when it was trained.

    An imported encoder without a text side has none of its own and takes that of the data set ``data``.

    Raises:
      UserError: it is in none of these places.
    """
    run_dir = pathlib.Path(run_dir)
    copy = next((run_dir / name for name in FILE_NAMES if (run_dir / name).is_file()), None)
    if copy is not None:
        return open_tokenizer(copy)
    if not (run_dir / ENVIRONMENT).exists():  # imported: its configuration names a data set that it never saw
        return open_tokenizer(tokenizer_path(data, dataclasses.replace(config.data, tokenizer="")))
    path = tokenizer_path(data_place(run_dir, config) or config.data.path, config.data)
    if path.is_file():
        return open_tokenizer(path)
    raise UserError(
        f"{run_dir} has no tokenizer of its own, and {path}, with which it was trained, is not here: copy that file to "
        f"{run_dir / (FILE_NAME if path.suffix == '.model' else path.name)}"
    )
