"""Whether the files of a corpus are as they were, told without reading them."""

import os
from collections.abc import Iterator, Mapping

from alp_jax.core import storage
from alp_jax.core.clip import AUDIO_EXTENSIONS
from alp_jax.core.errors import UserError
from alp_jax.core.hashing import fingerprint
from alp_jax.corpora import objects


def state_of(folder: storage.Location, settings: Mapping[str, str]) -> str:
    """Identity of the settings and of everything below a folder: it changes when files are added, removed or replaced.

    Of local audio files only their folder is looked at, whose time changes with the names in it: there may be ten
    million. Of remote files it is names and sizes.

    Raises:
      UserError: the folder cannot be read.
    """
    return fingerprint([dict(settings), sorted(_entries(folder))])


def _entries(folder: storage.Location) -> Iterator[list]:
    if storage.is_remote(folder):
        for name, size in objects.tree(folder).items():
            yield [name, 0, size]
        return
    top = str(storage.local(folder))
    waiting = [top]
    while waiting:
        here = waiting.pop()
        try:
            yield [os.path.relpath(here, top), os.stat(here).st_mtime_ns, 0]
            with os.scandir(here) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif os.path.splitext(entry.name)[1].lower() not in AUDIO_EXTENSIONS:
                        status = entry.stat()
                        yield [os.path.relpath(entry.path, top), status.st_mtime_ns, status.st_size]
        except OSError as error:
            raise UserError(f"{here} cannot be read: {error.strerror}") from None
