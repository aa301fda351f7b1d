"""A local folder and a folder in an object store that are kept alike: what is written here goes there, file by file.

Files here are appended to and replaced; an object is there whole or not at all. So a file that has changed is uploaded
again, whole, and a file that says that others are there (``last``) goes after them and leaves before them.
"""

import concurrent.futures
import contextlib
import hashlib
import pathlib
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence

from alp_jax.core import object_store, storage
from alp_jax.core.errors import StorageError
from alp_jax.core.paths import cache_dir

AT_ONCE = 8  # requests
UPLOAD_S = 10.0  # between looks for what a block has written to a copy


class Mirror:
    """Both folders, as one thread sees them.

    Args:
      folder: the local one. url: the other.
      wanted: whether a file belongs to both, by its path from the folder; hidden files and links never do.
      last: paths of files in the order in which they go up, after all others.
    """

    def __init__(self, folder: pathlib.Path, url: str, wanted: Callable[[str], bool], last: Sequence[str] = ()):
        self.folder, self.url, self._wanted, self._last = folder, url, wanted, list(last)
        self._same: dict[str, tuple[int, int]] = {}  # what is alike on both sides: size and time of the local file

    def pull(self, *, only_missing: bool = False) -> None:
        """Makes the local folder as the other is, or adds what it lacks; OSError when the other cannot be read."""
        there = [name for name in storage.tree(self.url) if self._belongs(name)]
        if only_missing:
            there = [name for name in there if not (self.folder / name).exists()]
        else:
            for name in self._here().keys() - set(there):
                (self.folder / name).unlink()
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda name: storage.fetch(storage.join(self.url, name), self.folder / name), there))
        here = self._here()
        # Files that were here already may be newer than those there: they count as changed until they have gone up.
        self._same = {name: here[name] for name in there} if only_missing else here

    def push(self, before: Callable[[], None] = lambda: None) -> None:
        """Removes there what is gone here, then uploads what has changed here since the last pull or push.

        ``before`` is called before each file; what it raises ends this.

        Raises:
          StorageError: a file could not be written or removed; it and those after it come with the next push.
        """
        here = self._here()
        # What vouches for other files leaves before them, in reverse order, and goes up after them, below: whoever
        # reads in between finds files that nothing vouches for, never the opposite.
        for name in sorted(self._same.keys() - here.keys(), key=self._rank, reverse=True):
            before()
            try:
                storage.remove(storage.join(self.url, name))
            except OSError as error:
                raise StorageError(f"{self.url}/{name} could not be removed: {error}") from None
            del self._same[name]
        for name in sorted((name for name in here if here[name] != self._same.get(name)), key=self._rank):
            before()
            object_store.send(self.folder / name, storage.join(self.url, name))
            # As it was seen before the upload: a file that was written to meanwhile differs from this, and goes up
            # again.
            self._same[name] = here[name]

    def _here(self) -> dict[str, tuple[int, int]]:
        found = {}
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder).as_posix()
            with contextlib.suppress(FileNotFoundError):  # written and renamed while this looks
                if self._belongs(name) and path.is_file() and not path.is_symlink():
                    found[name] = (path.stat().st_size, path.stat().st_mtime_ns)
        return found

    def _belongs(self, name: str) -> bool:
        return not any(part.startswith(".") for part in name.split("/")) and self._wanted(name)

    def _rank(self, name: str) -> int:
        return self._last.index(name) if name in self._last else -1


@contextlib.contextmanager
def copied(
    url: str, wanted: Callable[[str], bool], last: Sequence[str] = (), *, write: bool = False
) -> Iterator[Mirror]:
    """A local copy of what is ``wanted`` of the folder in ``url``, under its name; it is gone after the block.

    With ``write``, what the block changes in it goes to the store within about ``UPLOAD_S`` seconds, in the background,
    and what is left when the block ends, however it does. A process that is killed loses no more than the last seconds.

    Raises:
      OSError, StorageError: the store cannot be read or written.
    """
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir(), prefix="copy-") as temporary:
        copy = Mirror(pathlib.Path(temporary, url.rstrip("/").rpartition("/")[2]), url, wanted, last)
        copy.folder.mkdir()
        copy.pull()
        if not write:
            yield copy
            return
        over = threading.Event()

        def upload() -> None:
            while not over.wait(UPLOAD_S):
                with contextlib.suppress(StorageError):  # what is left goes with a later push; the last one raises
                    copy.push()

        uploads = threading.Thread(target=upload, daemon=True)
        uploads.start()
        try:
            yield copy
        finally:
            over.set()
            uploads.join()
            copy.push()


def local_home(kind: str, url: str) -> pathlib.Path:
    """The local folder of a ``kind`` that stands for ``url`` on this host, in the cache, under its own name."""
    url = url.rstrip("/")
    return cache_dir() / kind / hashlib.sha256(url.encode()).hexdigest()[:12] / url.rpartition("/")[2]
