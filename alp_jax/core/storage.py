"""Files by path or URL: local ones through the operating system, ``gs://``, ``s3://``, ``memory://`` through fsspec.

A URL's scheme needs the package that fsspec names for it (gcsfs for ``gs://``, s3fs for ``s3://``: the extra
``cloud``). Local paths may be given with or without ``file://``. What goes wrong at a remote place is an OSError that
says where; a missing package, missing credentials or an unknown scheme is a UserError.
"""

import contextlib
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from alp_jax.core import files
from alp_jax.core.errors import StorageError, UserError
from alp_jax.core.object_store import STORES, reached, require_credentials, said, send

Location = str | os.PathLike


def is_remote(path: Location) -> bool:
    """Whether ``path`` is a URL of something that is not the local file system."""
    scheme, mark, _ = os.fspath(path).partition("://")
    return bool(mark) and scheme != "file"


def local(path: Location) -> pathlib.Path:
    """``path`` as a local path; UserError when it is a remote URL."""
    if is_remote(path):
        raise UserError(f"{path} is remote; a local path is needed here")
    return pathlib.Path(os.fspath(path).removeprefix("file://"))


def join(folder: Location, name: str) -> str:
    """``folder/name``; a URL stays one."""
    return f"{os.fspath(folder).rstrip('/')}/{name}"


def resolve(folder: Location, name: str) -> str:
    """The file that ``name`` means in ``folder``: a URL or absolute path means itself."""
    return name if "://" in name or os.path.isabs(name) else join(folder, name)


def location(path: str) -> Location:
    """A command line's ``path``: a local one as a path, a remote one as the URL it is; UserError for nearly a URL."""
    if not is_remote(path) and (meant := _meant(path)):
        raise UserError(f"{path} is not a URL: write {meant}")
    return path if is_remote(path) else local(path)


def local_path(path: str) -> pathlib.Path:
    """A command line's ``path`` to what has to be local; UserError for a URL, or nearly one."""
    return local(location(path))


def _meant(path: str) -> str:
    """The URL that ``path``, in which slashes are missing, was meant to be; "" where it is a path."""
    slip = re.match(rf"({'|'.join(STORES)}|gcs):/+", path)
    return f"{slip[1]}://{path[slip.end() :]}" if slip else ""


def check_run_folder(path: Location, knob: str) -> None:
    """Checks that a run can be kept in ``path``: a local path, or a folder of a store that can be listed from here.

    Raises:
      UserError: another scheme, no package or credentials for it, no such bucket, or no right to look into it.
    """
    check_scheme(path, knob)
    if not is_remote(path):
        return
    text = os.fspath(path)
    try:
        with reached(path) as (system, name):
            require_credentials(path, system)
            system.ls(name, detail=False)
    except FileNotFoundError as error:
        if "bucket does not exist" in str(error.strerror):  # the folder need not
            raise UserError(f"{knob} {text}: {error.strerror}") from None
    except OSError as error:
        raise UserError(f"{knob} {text} cannot be reached: {said(error)}") from None


def check_scheme(path: Location, knob: str) -> None:
    """Checks that a run can be kept in a place like ``path``, without going there.

    Raises:
      UserError: it is a URL of another scheme, or nearly a URL.
    """
    text = os.fspath(path)
    if not is_remote(path):
        if meant := _meant(text):
            raise UserError(f"{knob} {text} is not a URL: write {meant}")
        return
    scheme = text.partition("://")[0]
    if scheme not in STORES:
        raise UserError(
            f"{knob} {text}: a run folder cannot be at {scheme}://: give a path, or a URL of gs:// or s3://"
        )


def size(path: Location) -> int:
    """Bytes of a file, -1 when there is none."""
    try:
        if is_remote(path):
            with reached(path) as (system, name):
                return int(system.size(name))
        return os.stat(local(path)).st_size
    except OSError:
        return -1


def read(path: Location) -> bytes:
    """The whole file; FileNotFoundError or another OSError when it cannot be read."""
    if is_remote(path):
        with reached(path) as (system, name):
            return system.cat_file(name)
    return local(path).read_bytes()


def read_ranges(ranges: list[tuple[Location, int, int]]) -> list[bytes]:
    """Up to ``length`` bytes from byte ``offset`` of each (path, offset, length), fewer at the end of a file.

    All are of one object store; the requests run side by side.
    """
    starts, ends = [offset for _, offset, _ in ranges], [offset + length for _, offset, length in ranges]
    with reached(ranges[0][0]) as (system, _):
        # what url_to_fs does for each path, without looking for its file system again
        names = [system._strip_protocol(os.fspath(path)) for path, _, _ in ranges]
        return system.cat_ranges(names, starts, ends, on_error="raise")


def sizes(folder: Location) -> dict[str, int]:
    """Bytes of every file in ``folder`` by name, with one request; empty when there is no such folder."""
    try:
        if is_remote(folder):
            with reached(folder) as (system, name):
                entries = system.ls(name, detail=True)
            return {entry["name"].rpartition("/")[2]: entry["size"] for entry in entries if entry["type"] == "file"}
        with os.scandir(local(folder)) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    except OSError:
        return {}


def tree(folder: Location) -> dict[str, int]:
    """Bytes of every file below ``folder`` by its path from there, in order; empty when there is no such folder.

    Raises:
      OSError: a remote folder cannot be listed.
    """
    if not is_remote(folder):
        root = local(folder)
        found = ((p.relative_to(root).as_posix(), p) for p in sorted(root.rglob("*")) if not p.is_dir())
        return {name: p.stat().st_size for name, p in found}
    try:
        with reached(folder) as (system, name):
            found = system.find(name, detail=True)
    except FileNotFoundError:
        return {}
    root_name = name.rstrip("/") + "/"
    return {full.removeprefix(root_name): entry["size"] for full, entry in sorted(found.items())}


def modified(path: Location) -> float:
    """When a file was last written, by the clock of the store that holds it; FileNotFoundError when there is none."""
    if not is_remote(path):
        return local(path).stat().st_mtime
    with reached(path) as (system, name):
        return system.modified(name).timestamp()


def open_binary(path: Location) -> BinaryIO:
    """A seekable file to read from; of a remote one only what is read travels. OSError when it cannot be opened."""
    if is_remote(path):
        with reached(path) as (system, name):
            return system.open(name, "rb", cache_type="none")
    return open(local(path), "rb")


@contextlib.contextmanager
def partial(path: Location) -> Iterator[pathlib.Path]:
    """A local file to write; it becomes ``path``, synced and whole, when the block ends, and nothing when it raises.

    Raises:
      StorageError: it could not be written; an OSError of the block becomes one.
    """
    file, folder, prefix = None, None, None
    try:
        if not is_remote(path):
            folder, prefix = local(path).parent, f".{local(path).name}."
            folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=prefix)
        os.close(handle)
        file = pathlib.Path(name)
        file.chmod(0o644)
        yield file
        with open(file, "rb") as written:
            os.fsync(written.fileno())
        put(file, path)
    except OSError as error:
        raise StorageError(f"{path} could not be written: {error}") from None
    finally:
        if file:
            file.unlink(missing_ok=True)


def write(path: Location, data: bytes) -> None:
    """Writes the file whole or not at all (object stores show an object when it is complete).

    Raises:
      StorageError: it could not be written.
    """
    try:
        if is_remote(path):
            with reached(path) as (system, name):
                system.pipe_file(name, data)
        else:
            files.write_bytes(local(path), data)
    except OSError as error:
        raise StorageError(f"{path} could not be written: {error}") from None


def put(source: pathlib.Path, path: Location) -> None:
    """Moves the finished local file ``source`` to ``path``; on one file system that is a rename.

    Raises:
      StorageError: it could not be written.
    """
    try:
        if is_remote(path):
            send(source, os.fspath(path))
            source.unlink()
        else:
            shutil.move(source, local(path))
    except OSError as error:
        raise StorageError(f"{path} could not be written: {error}") from None


def names(folder: Location) -> list[str]:
    """Names of the files and folders in ``folder``, sorted; empty when there is no such folder.

    Raises:
      OSError: a remote folder cannot be listed.
    """
    if not is_remote(folder):
        try:
            return sorted(os.listdir(local(folder)))
        except OSError:
            return []
    try:
        with reached(folder) as (system, name):
            return sorted(entry.rstrip("/").rpartition("/")[2] for entry in system.ls(name, detail=False))
    except FileNotFoundError:
        return []


def remove(path: Location) -> None:
    """Deletes a file if it is there."""
    if is_remote(path):
        with reached(path) as (system, name):
            if system.exists(name):
                system.rm_file(name)
    else:
        local(path).unlink(missing_ok=True)


def fetch(path: Location, target: pathlib.Path) -> None:
    """Copies ``path`` to the local file ``target``, which is there whole or not at all; OSError when that fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    try:
        if is_remote(path):
            with reached(path) as (system, name):
                system.get_file(name, partial)
        else:
            shutil.copyfile(local(path), partial)
        os.chmod(partial, 0o644)
        os.replace(partial, target)
    finally:
        pathlib.Path(partial).unlink(missing_ok=True)


def local_copy(path: Location, cache: pathlib.Path, name: str) -> pathlib.Path:
    """A local file with the content of ``path``: itself when it is local, else fetched once as ``cache/name``.

    ``name`` has to identify the content (carry a hash), for a copy that is there is taken as it is.
    """
    if not is_remote(path):
        return local(path)
    copy = cache / name
    if not copy.exists():
        fetch(path, copy)
    return copy
