"""Local copies of whole shards, for orders that visit them one after another (``data.read = "sequential"``)."""

import collections
import contextlib
import fcntl
import os
import pathlib
import threading
import time

from alp_jax.core import storage
from alp_jax.core.errors import AlpError, DataError
from alp_jax.core.paths import cache_dir

_IN_USE_S = 120.0  # a shard requested within this time is not removed


class ShardCache:
    """Gives every shard of a data set a path that reads at local speed.

    Remote shards are copied to the cache folder, once per host however many processes ask, and the least recently used
    copies make room. Local shards stay where they are; the system is advised to read them ahead as a whole.

    Args:
      folder: of the data set.
      entries: ``shards`` of its description.
      limit_bytes: for all copies in the cache folder; shards in use may exceed it.
    """

    def __init__(self, folder: storage.Location, entries: list[dict], limit_bytes: float):
        self._folder, self._entries, self._limit = folder, entries, limit_bytes
        self._cache = cache_dir() / "shards"
        self._asked: collections.deque[tuple[int, ...]] = collections.deque(maxlen=4)

    def path(self, number: int) -> pathlib.Path:
        """A local file with the content of a shard; makes the copy first if there is none.

        Raises:
          DataError: it cannot be copied.
        """
        entry = self._entries[number]
        where = storage.resolve(self._folder, entry["name"])
        if not storage.is_remote(where):
            return storage.local(where)
        copy = self._cache / f"{entry['sha256'][:16]}-{entry['name'].rpartition('/')[2]}"
        try:
            if not _touch(copy):
                self._cache.mkdir(parents=True, exist_ok=True)
                with _locked(self._cache / f".{copy.name}.lock"):
                    storage.local_copy(where, self._cache, copy.name)
                if copy.stat().st_size != entry["bytes"]:
                    copy.unlink()
                    raise DataError(f"{where} does not have the {entry['bytes']} bytes that its data set states")
                self._make_room()
        except OSError as error:
            raise DataError(f"{where}: cannot be copied to {self._cache}: {error}") from None
        return copy

    def ahead(self, numbers: tuple[int, ...]) -> None:
        """Starts to fetch shards that are needed now and next, in the background."""
        if numbers not in self._asked:
            self._asked.append(numbers)
            threading.Thread(target=self._fetch, args=(numbers,), daemon=True).start()

    def _fetch(self, numbers: tuple[int, ...]) -> None:
        for number in numbers:
            with contextlib.suppress(AlpError, OSError):  # whoever reads the shard reports what is wrong
                path = self.path(number)
                if path.parent != self._cache and hasattr(os, "posix_fadvise"):
                    with open(path, "rb") as file:
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)

    def _make_room(self) -> None:
        with _locked(self._cache / ".lock"):
            copies = []
            for file in self._cache.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if not file.name.startswith("."):
                        copies.append((file.stat().st_mtime, file.stat().st_size, file))
            total = sum(size for _, size, _ in copies)
            for used, size, file in sorted(copies):
                if total <= self._limit or used > time.time() - _IN_USE_S:
                    break
                file.unlink(missing_ok=True)
                self._cache.joinpath(f".{file.name}.lock").unlink(missing_ok=True)
                total -= size


def _touch(path: pathlib.Path) -> bool:
    """Marks a file as used now; False if it does not exist."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


@contextlib.contextmanager
def _locked(path: pathlib.Path):
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
