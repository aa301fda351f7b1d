"""Files and folders that are whole or absent: atomic writes, hashes, JSON with errors that name the file."""

import contextlib
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from alp_jax.core.errors import UserError


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Writes ``data`` to ``path`` atomically: a reader sees the old file or the new one, never a part."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        pathlib.Path(name).unlink(missing_ok=True)
        raise


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes UTF-8 ``text`` to ``path`` atomically."""
    write_bytes(path, text.encode())


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """An empty folder that becomes ``path``, in place of one that is there, when the block ends without an error."""
    path = pathlib.Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    # beside its place, so that moving it there is a rename within one file system
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as temporary:
        made = pathlib.Path(temporary) / "made"
        made.mkdir()
        yield made
        if path.exists():
            os.rename(path, pathlib.Path(temporary) / "before")
        os.rename(made, path)


def json_text(value: Any) -> str:
    """``value`` as indented JSON with sorted keys; NaN and infinity are refused (ValueError)."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes ``value`` as ``json_text``."""
    write_text(path, json_text(value))


def _read_local(path: str | os.PathLike) -> bytes:
    return pathlib.Path(path).read_bytes()


def read_json(
    path: str | os.PathLike, label: str = "file", read: Callable[[str | os.PathLike], bytes] = _read_local
) -> Any:
    """Reads a JSON file; raises UserError naming ``path`` when it is missing or not JSON.

    ``read`` gives its bytes: ``storage.read`` where ``path`` may be a URL.
    """
    try:
        return json.loads(read(path).decode())
    except FileNotFoundError:
        raise UserError(f"{label} {path} does not exist") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{label} {path} is not readable JSON: {error}") from None


def read_object(
    path: str | os.PathLike, label: str = "file", read: Callable[[str | os.PathLike], bytes] = _read_local
) -> dict[str, Any]:
    """As ``read_json``; raises UserError also when the file holds something other than a JSON object."""
    content = read_json(path, label, read)
    if not isinstance(content, dict):
        raise UserError(f"{label} {path} is not a JSON object")
    return content


def sha256(path: str | os.PathLike) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
