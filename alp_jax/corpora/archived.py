"""Finds the audio of a clip that may still be in the zip archives it was published in."""

import os
from collections.abc import Sequence

from alp_jax.core.clip import AUDIO_EXTENSIONS
from alp_jax.core.split_zip import ZipArchive
from alp_jax.corpora.audio_files import AudioFiles


class ArchivedFiles:
    """The audio files below a folder: those that are unpacked, and those in zip archives.

    Archives are opened when the first file is not found unpacked. A name in one of them takes about 250 bytes.
    """

    def __init__(self, files: AudioFiles):
        self._files = files
        self._paths: list[str] = []
        self._places: dict[str, tuple[int, int, int]] | None = None  # stem -> archive, where it lies, its length

    def locate(self, stems: Sequence[str]) -> tuple[str, str]:
        """(path, member) of the file for the first of ``stems`` that has one; see ``AudioFiles.path`` if none has.

        Raises:
          BadRow: as ``AudioFiles.path``.
          UserError: an archive is damaged or incomplete.
        """
        for stem in stems:
            if path := self._files.find(stem):
                return path, ""
        if self._places is None:
            self._places = self._index()
        for stem in stems:
            if stem in self._places:
                archive, start, length = self._places[stem]
                return self._paths[archive], f"{start}:{length}"
        return self._files.path(stems), ""

    def _index(self) -> dict[str, tuple[int, int, int]]:
        places: dict[str, tuple[int, int, int]] = {}
        for number, path in enumerate(self._files.containers(".zip")):
            self._paths.append(os.path.abspath(path))
            for entry in ZipArchive(path).entries():
                stem, extension = os.path.splitext(entry.name.rpartition("/")[2])
                if extension.lower() in AUDIO_EXTENSIONS:
                    places.setdefault(stem, (number, entry.start, entry.length))
        return places
