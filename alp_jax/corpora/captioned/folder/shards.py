"""Which files of a folder are a user's data: its tables, or the shards of a container format at any depth."""

import os
import pathlib
from collections.abc import Iterator, Sequence

from alp_jax.core.errors import UserError
from alp_jax.corpora.captioned.folder.tables import CONTAINERS

_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".csv.gz", ".tsv.gz", ".jsonl.gz")


def files(paths: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """``paths`` with folders replaced by the tables in them, else by the tar and parquet files below them, sorted.

    Raises:
      UserError: a folder has neither, or cannot be read.
    """
    files_named = []
    for path in paths:
        files_named += _of_folder(path) if path.is_dir() else [path]
    return files_named


def top(paths: Sequence[pathlib.Path]) -> str:
    """The folder to which names of containers are relative, so that they are unique: the lowest that holds them all.

    If all containers lie in one folder, it is the parent of that folder.
    """
    folders = sorted(
        {os.path.dirname(os.path.abspath(path)) for path in paths if path.name.lower().endswith(CONTAINERS)}
    )
    common = os.path.commonpath(folders) if folders else ""
    return os.path.dirname(common) if len(folders) == 1 else common


def _of_folder(folder: pathlib.Path) -> list[pathlib.Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(f"metadata folder {folder} cannot be read: {error.strerror}") from None
    tables = [folder / name for name in names if name.lower().endswith(_TABLES) and not name.startswith(".")]
    data = tables or sorted(_containers(folder))
    if not data:
        kinds = f"{', '.join(_TABLES[:4])}, {' or '.join(CONTAINERS)}"
        raise UserError(f"folder {folder} holds no {kinds} file; give the table with --metadata FILE")
    return data


def _containers(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    for parent, below, names in os.walk(folder):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(CONTAINERS) and not name.startswith("."):
                yield pathlib.Path(parent, name)
