"""Corpora in object stores: metadata is copied to the cache and read there, audio stays where it is."""

import fnmatch
import pathlib
from collections.abc import Iterator, Sequence

from alp_jax.core import storage
from alp_jax.core.errors import UserError
from alp_jax.core.hashing import fingerprint
from alp_jax.core.paths import cache_dir

_TABLES = (".csv", ".tsv", ".json", ".jsonl", ".gz", ".parquet", ".txt")  # taken from a folder that is asked for whole


def names(folder: storage.Location) -> list[str]:
    """``storage.names``; UserError where a remote folder cannot be listed."""
    try:
        return storage.names(folder)
    except OSError as error:
        raise UserError(str(error)) from None


def tree(folder: storage.Location) -> dict[str, int]:
    """``storage.tree``; UserError where a remote folder cannot be listed."""
    try:
        return storage.tree(folder)
    except OSError as error:
        raise UserError(str(error)) from None


def folders(root: str) -> Iterator[tuple[str, list[str]]]:
    """(URL of a folder, names of its objects) below ``root``, without hidden ones, with one listing."""
    found: dict[str, list[str]] = {}
    for name in tree(root):
        folder, _, last = name.rpartition("/")
        if not any(part.startswith(".") for part in name.split("/")):
            found.setdefault(storage.join(root, folder) if folder else root, []).append(last)
    yield from sorted(found.items())


def fetched(url: storage.Location, suffixes: Sequence[str]) -> list[pathlib.Path]:
    """Local copies of the metadata that a URL names: a file, a pattern of the last part of its name, or a folder.

    A copy is made once and again when the object has changed. Of a folder the files with ``suffixes`` are copied;
    without suffixes, all tables below it, and the result is the folder.

    Raises:
      UserError: there is nothing, or it cannot be read.
    """
    text = str(url).rstrip("/")
    above, _, last = text.rpartition("/")
    try:
        if names(text) == [last]:  # what the listing of an object is
            return [_copy(text)]
        if any(mark in last for mark in "*?["):
            files = [storage.join(above, name) for name in fnmatch.filter(names(above), last)]
        elif suffixes:
            files = [storage.join(text, name) for name in names(text) if name.endswith(tuple(suffixes))]
        else:
            inside = {name: size for name, size in tree(text).items() if name.lower().endswith(_TABLES)}
            folder = cache_dir() / "metadata" / fingerprint([text, inside])
            for name in inside:
                storage.local_copy(storage.join(text, name), folder, name)
            return [folder] if inside else _nothing(text)
        return [_copy(file) for file in files] or _nothing(text)
    except OSError as error:
        raise UserError(f"metadata {text} cannot be read: {error}") from None


def _copy(url: str) -> pathlib.Path:
    # the name is kept, because it may tell the split or the source
    version = fingerprint([url, storage.size(url), storage.modified(url)])
    return storage.local_copy(url, cache_dir() / "metadata" / version, url.rpartition("/")[2])


def _nothing(url: str) -> list[pathlib.Path]:
    raise UserError(f"metadata {url} does not exist")
