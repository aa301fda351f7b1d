"""The audio files below a folder, in an order that is the same everywhere."""

import dataclasses
import os
import pathlib
from collections import Counter

from alp_jax.core.clip import AUDIO_EXTENSIONS
from alp_jax.core.errors import UserError
from alp_jax.core.progress import say


@dataclasses.dataclass(frozen=True)
class AudioFile:
    """A file: its path relative to the folder (POSIX, UTF-8), size in bytes and modification time."""

    path: str
    size: int
    mtime_ns: int


def list_audio(folder: str | os.PathLike) -> tuple[list[AudioFile], dict[str, int]]:
    """The audio files below ``folder``, told by extension and sorted by path; and how many others of each extension.

    Names that start with a dot and links to folders are skipped. A file whose name is not UTF-8 cannot be recorded: it
    is reported on standard error and counted among the others as ``not UTF-8``.

    Raises:
      UserError: the folder does not exist or holds no audio.
    """
    root, files, others = pathlib.Path(folder), [], Counter()
    if not root.is_dir():
        raise UserError(f"audio folder {root} does not exist")
    for parent, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            extension = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                continue
            if extension not in AUDIO_EXTENSIONS:
                others[extension or "none"] += 1
                continue
            path = pathlib.Path(parent, name)
            relative = path.relative_to(root).as_posix()
            if not _is_utf8(relative):
                say(f"left out: {str(path)!a}, whose name is not UTF-8: rename it")
                others["not UTF-8"] += 1
                continue
            try:
                stat = path.stat()
            except OSError:  # a dangling link: reading it will report it as missing
                files.append(AudioFile(relative, 0, 0))
            else:
                files.append(AudioFile(relative, stat.st_size, stat.st_mtime_ns))
    if not files:
        raise UserError(f"{root} holds no audio file ({', '.join(sorted(AUDIO_EXTENSIONS))})")
    return sorted(files, key=lambda file: file.path), dict(sorted(others.items()))


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
