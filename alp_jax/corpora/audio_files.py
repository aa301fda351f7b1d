"""Finding the audio of a clip below a folder, however its owner named the files."""

import os
import pathlib
import re
from collections.abc import Collection, Iterable, Iterator

from alp_jax.core.clip import AUDIO_EXTENSIONS
from alp_jax.core.errors import UserError
from alp_jax.corpora.rows import BadRow, check_utf8

_PREFERRED = ".wav"  # of a file that is not there


class AudioFiles:
    """The audio files below a folder by stem (name without extension), scanned once and when first asked for.

    A stem takes about 150 bytes. Hidden files and folders are left out, links are followed. Of files that differ in
    the extension only, the first in alphabetical order is taken.
    """

    def __init__(self, root: pathlib.Path | None, leave_out: Collection[str] = (), keep: Collection[str] = ()):
        """Prepares a scan.

        Args:
          root: the folder; None for uses without audio, where every path is "".
          leave_out: words; folders that have one of them in their name are not searched,
          keep: ... unless they also have one of these.
        """
        self._root, self._leave_out, self._keep = root, frozenset(leave_out), frozenset(keep)
        self._places: dict[str, tuple[str, str]] | None = None  # stem -> (folder, extension), shared by many stems
        self._again: dict[str, list[tuple[str, str]]] = {}  # further places of a stem
        self._tables: list[pathlib.Path] = []

    def path(self, stems: Iterable[str]) -> str:
        """The file that has the first of ``stems`` that any file has.

        When none has, the path it would have under the first stem: the builder counts it as missing.

        Raises:
          BadRow: files of different folders have the name, or the first stem is no name of a file.
        """
        if self._root is None:
            return ""
        expected = ""
        for stem in stems:
            expected = expected or stem
            found = self.find(stem)
            if found:
                return found
        if not expected or "/" in expected or "\0" in expected:
            raise BadRow("bad_id", f"{expected!r} cannot be the name of a file")
        return os.path.join(self._root, expected + _PREFERRED)

    def find(self, stem: str) -> str:
        """The file of that stem, "" when there is none; BadRow when files of different folders have it."""
        if self._places is None:
            self._scan()
        place = self._places.get(stem)
        if place is None:
            return ""
        if stem in self._again:
            place = self._best(stem, [place, *self._again[stem]])
        path = f"{place[0]}{stem}{place[1]}"
        if not path.isascii():
            check_utf8(path, "audio file")
        return path

    def parquet(self) -> list[pathlib.Path]:
        """The parquet files below the folder, sorted."""
        if self._places is None:
            self._scan()
        return self._tables

    def _best(self, stem: str, places: list[tuple[str, str]]) -> tuple[str, str]:
        if len({folder for folder, _ in places}) > 1:
            shown = " and ".join(sorted(folder + stem + extension for folder, extension in places)[:2])
            raise BadRow("ambiguous_audio", shown)
        return min(places, key=lambda place: place[1].lower())

    def _scan(self) -> None:
        self._places = {}
        if self._root is None:
            return
        for folder, names in self._folders():
            prefix = os.path.join(folder, "")
            place_of = {}
            for name in names:
                stem, extension = os.path.splitext(name)
                if extension.lower() in AUDIO_EXTENSIONS:
                    place = place_of.setdefault(extension, (prefix, extension))
                    if self._places.setdefault(stem, place) is not place:
                        self._again.setdefault(stem, []).append(place)
                elif extension == ".parquet":
                    self._tables.append(pathlib.Path(folder, name))
        self._tables.sort()

    def _folders(self) -> Iterator[tuple[str, list[str]]]:
        """(folder, names of its files) below the root, each folder once however many links lead to it."""
        waiting, seen = [str(self._root)], set()
        while waiting:
            folder = waiting.pop()
            names, below = [], []
            try:
                status = os.stat(folder)
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if not entry.name.startswith("."):
                            (below if entry.is_dir() else names).append(entry.name)
            except OSError as error:
                raise UserError(f"audio folder {folder} cannot be read: {error.strerror}") from None
            waiting += [os.path.join(folder, name) for name in sorted(below, reverse=True) if self._enters(name)]
            yield folder, names

    def _enters(self, name: str) -> bool:
        words = set(re.findall("[a-z]+", name.lower()))
        return not words & self._leave_out or bool(words & self._keep)


def below(root: pathlib.Path | None, name: str) -> str:
    """The path ``root/name`` (``name`` may be absolute and below ``root``), "" without a root.

    Raises:
      BadRow: ``name`` leads out of ``root``.
    """
    if not name or "\0" in name:
        raise BadRow("bad_id", f"file name {name!r}")
    if root is None:
        if os.path.normpath(name).split(os.sep)[0] == os.pardir:
            raise BadRow("outside_folder", f"{name!r} lies outside the audio folder")
        return ""
    top = os.path.join(os.path.abspath(root), "")
    path = os.path.normpath(os.path.join(top, name))
    if not path.startswith(top):
        raise BadRow("outside_folder", f"{name!r} lies outside {root}")
    return path
