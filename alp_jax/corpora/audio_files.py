"""Finds the audio of a clip below a folder, whatever naming convention its owner used."""

import os
import pathlib
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator

from alp_jax.core import storage
from alp_jax.core.clip import AUDIO_EXTENSIONS, OTHER_EXTENSIONS, TAKEN_LAST
from alp_jax.core.errors import UserError
from alp_jax.corpora import objects
from alp_jax.corpora.rows import BadRow, check_utf8

_SOUND = AUDIO_EXTENSIONS | OTHER_EXTENSIONS
_PREFERRED = ".wav"  # extension assumed for a missing file


class Spelt:
    """Finds files whose names are in a different Unicode form than in a table (macOS decomposes letters)."""

    def __init__(self):
        self._names: dict[str, dict[str, list[str]]] = {}  # folder -> composed name -> names

    def on_disk(self, root: str, relative: str) -> str:
        """``relative`` as the file below ``root`` is spelt; unchanged if there is no such file.

        Raises:
          BadRow: ``ambiguous_audio``, several files equal it after normalisation and none is spelt exactly so.
        """
        if relative.isascii() or os.path.lexists(os.path.join(root, relative)):
            return relative
        folder, parts = root, []
        for part in relative.split(os.sep):
            path = os.path.join(folder, part)
            if not part.isascii() and not os.path.lexists(path):
                names = self._listing(folder).get(composed(part), [part])
                if len(names) > 1:
                    raise BadRow("ambiguous_audio", f"{folder}: {_same(names, part)}")
                part = names[0]
            parts.append(part)
            folder = os.path.join(folder, part)
        return os.path.join(*parts)

    def _listing(self, folder: str) -> dict[str, list[str]]:
        if folder not in self._names:
            names: dict[str, list[str]] = {}
            try:
                for name in sorted(os.listdir(folder)):
                    if not name.isascii():
                        names.setdefault(composed(name), []).append(name)
            except OSError:
                names = {}
            self._names[folder] = names
        return self._names[folder]


def composed(name: str) -> str:
    """A name in composed Unicode (NFC), the form in which names are compared."""
    return unicodedata.normalize("NFC", name)


def _same(names: list[str], wanted: str) -> str:
    return f"{' and '.join(ascii(name) for name in names[:2])} are both {wanted!r} after Unicode normalisation"


class AudioFiles:
    """The audio files below a folder by stem (name without extension), scanned once, on first use.

    A stem takes about 150 bytes. Hidden files and folders are skipped, links are followed. Of files that differ only in
    extension, the first in alphabetical order is taken. One with an extension of ``core.clip.TAKEN_LAST``, in whatever
    folder, is taken only if there is no other; and one of ``OTHER_EXTENSIONS`` (which is refused by name, rather than
    reported as missing) only if there is none of these either.
    """

    def __init__(self, root: pathlib.Path | str | None, leave_out: Collection[str] = (), keep: Collection[str] = ()):
        """Prepares a scan.

        Args:
          root: the folder, or its URL; None for use without audio: every path is then "".
          leave_out: words; folders with one of them in their name are not searched.
          keep: words; folders with one of them in their name are searched all the same.
        """
        self._root, self._leave_out, self._keep = root, frozenset(leave_out), frozenset(keep)
        self._locations: dict[str, tuple[str, str]] | None = None  # stem -> (folder, extension), shared by many stems
        self._again: dict[str, list[tuple[str, str]]] = {}  # further locations of a stem
        self._containers: dict[str, list[pathlib.Path]] = {".parquet": [], ".zip": []}
        self._composed: dict[str, list[str]] | None = None  # stems that are not ASCII by their composed form

    def path(self, stems: Iterable[str]) -> str:
        """The file for the first of ``stems`` that has one.

        If none has, the path it would have under the first stem, which the builder then counts as missing.

        Raises:
          BadRow: files in different folders have the name, or the first stem is not a valid file name.
        """
        if self._root is None:
            return ""
        expected = ""
        for stem in stems:
            expected = expected or stem
            path = self.find(stem)
            if path:
                return path
        if not expected or "/" in expected or "\0" in expected:
            raise BadRow("bad_id", f"{expected!r} cannot be the name of a file")
        return os.path.join(self._root, expected + _PREFERRED)

    def find(self, stem: str) -> str:
        """The file with that stem, "" if there is none; BadRow if files in different folders have it."""
        if self._locations is None:
            self._scan()
        location = self._locations.get(stem)
        if location is None and not stem.isascii():
            # look for the Unicode form that a file has; several of them are ambiguous
            if self._composed is None:
                self._composed = {}
                for known in self._locations:
                    if not known.isascii():
                        self._composed.setdefault(composed(known), []).append(known)
            names = self._composed.get(composed(stem), [stem])
            if len(names) > 1:
                raise BadRow("ambiguous_audio", _same(names, stem))
            stem = names[0]
            location = self._locations.get(stem)
        if location is None:
            return ""
        if stem in self._again:
            location = self._best(stem, [location, *self._again[stem]])
        path = f"{location[0]}{stem}{location[1]}"
        if not path.isascii():
            check_utf8(path, "audio file")
        return path

    def containers(self, extension: str) -> list[pathlib.Path]:
        """The files below the folder that hold audio files, sorted: all that end in ``.parquet``, or ``.zip``.

        Those named for what is left out are not among them.

        Raises:
          UserError: there are some, and the folder is remote: only single files are read from there.
        """
        if self._locations is None:
            self._scan()
        found = self._containers[extension]
        if found and storage.is_remote(self._root):
            raise UserError(f"{self._root} holds audio in {extension} files ({found[0].name}): copy or mount it")
        return found

    def _best(self, stem: str, locations: list[tuple[str, str]]) -> tuple[str, str]:
        rank = min(_rank(extension) for _, extension in locations)
        locations = [location for location in locations if _rank(location[1]) == rank]
        if len({folder for folder, _ in locations}) > 1:
            shown = " and ".join(sorted(folder + stem + extension for folder, extension in locations)[:2])
            raise BadRow("ambiguous_audio", shown)
        return min(locations, key=lambda location: location[1].lower())

    def _scan(self) -> None:
        self._locations = {}
        if self._root is None:
            return
        for folder, names in objects.folders(self._root) if storage.is_remote(self._root) else self._folders():
            if storage.is_remote(folder) and not all(map(self._enters, folder[len(str(self._root)) :].split("/"))):
                continue
            prefix = os.path.join(folder, "")
            location_of = {}
            for name in names:
                stem, extension = os.path.splitext(name)
                if extension.lower() in _SOUND:
                    location = location_of.setdefault(extension, (prefix, extension))
                    if self._locations.setdefault(stem, location) is not location:
                        self._again.setdefault(stem, []).append(location)
                elif extension in self._containers and self._enters(stem):
                    self._containers[extension].append(pathlib.Path(folder, name))
        for paths in self._containers.values():
            paths.sort()

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


def _rank(extension: str) -> int:
    extension = extension.lower()
    return (extension in TAKEN_LAST) + 2 * (extension in OTHER_EXTENSIONS)


def below(root: pathlib.Path | str | None, name: str) -> str:
    """The path or URL ``root/name`` (``name`` may be absolute and below ``root``), "" without a root.

    Raises:
      BadRow: ``name`` leads out of ``root``.
    """
    if not name or "\0" in name:
        raise BadRow("bad_id", f"file name {name!r}")
    if root is None:
        if os.path.normpath(name).split(os.sep)[0] == os.pardir:
            raise BadRow("outside_folder", f"{name!r} lies outside the audio folder")
        return ""
    if storage.is_remote(root):
        if (inside := os.path.normpath(name)).split(os.sep)[0] in (os.pardir, ""):
            raise BadRow("outside_folder", f"{name!r} lies outside {root}")
        return storage.join(root, inside)
    top = os.path.join(os.path.abspath(root), "")
    path = os.path.normpath(os.path.join(top, name))
    if not path.startswith(top):
        raise BadRow("outside_folder", f"{name!r} lies outside {root}")
    return path
