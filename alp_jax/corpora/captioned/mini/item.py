"""What the parsers of the mini corpus yield: a stretch of audio and the facts that its package states about it."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping

from alp_jax.core import files

# language codes as the packages write them
NAMES = {
    "be": "Belarusian", "cs": "Czech", "de": "German", "en": "English", "en_gb": "English", "es": "Spanish",
    "fr": "French", "it": "Italian", "nl": "Dutch", "pl": "Polish", "ru": "Russian", "uk": "Ukrainian",
    "zh": "Mandarin Chinese",
}  # fmt: skip
# of the language probe: speech of at least two packages, so that training and test voices come from different ones
PROBED = ("en", "fr", "pl", "ru", "uk")
AUDIO_SUFFIXES = (".ogg", ".oga", ".opus", ".wav", ".flac", ".g722", ".gsm")


@functools.cache
def table(name: str) -> dict:
    """The contents of a JSON file beside this one: packages, captions, voices or sounds."""
    return files.read_json(pathlib.Path(__file__).with_name(f"{name}.json"), f"table of {name}")


@dataclasses.dataclass(frozen=True)
class Item:
    """One clip before captions, split and content hash are known.

    Attributes:
      package: Debian package.
      relpath: path inside the package tree, with ``/``.
      path: absolute path of the file.
      kind: which caption grammar applies: ``speech``, ``sound``, ``drum``, ``music``, ...
      source: the clip's source name.
      group: unit of the split; every item of a group says the same ``policy``.
      policy: how the group gets its split, see splits.py.
      human: text that a person wrote about this clip, verbatim; may be empty.
      facts: slots of the caption grammar.
      tags: words and short phrases, the most informative first.
      labels: probe task -> class.
      train_labels: labels that hold only when the clip is in the training split, because the test of that task
        comes from other packages.
      segment: number of the segment if a file is cut, else None.
    """

    package: str
    relpath: str
    path: pathlib.Path
    kind: str
    source: str
    group: str
    policy: str
    facts: Mapping[str, str]
    tags: tuple[str, ...]
    human: str = ""
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    train_labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    segment: int | None = None
    start_s: float = 0.0
    duration_s: float | None = None

    def labels_in(self, split: str) -> dict[str, str]:
        """The labels of the clip once its split is known."""
        return {**self.labels, **(self.train_labels if split == "train" else {})}


class Tree:
    """The files of the fetched packages: ``raw/<package>`` and, for archives, ``unpacked/<package>``."""

    def __init__(self, cache_dir: pathlib.Path, packages: tuple[str, ...]):
        self.cache, self.packages = cache_dir, packages

    def roots(self, package: str) -> list[pathlib.Path]:
        """The folders of a package that exist; none when it is outside the tier or was not fetched."""
        if package not in self.packages:
            return []
        return [root for root in (self.cache / "raw" / package, self.cache / "unpacked" / package) if root.is_dir()]

    def audio(self, package: str, under: str = "") -> Iterator[tuple[str, pathlib.Path]]:
        """(path inside the package, file) of every audio file whose path contains ``under``, in path order.

        Symbolic links are not followed: packages use them for second names of the same file.
        """
        for root in self.roots(package):
            for path in sorted(root.rglob("*")):
                relpath = path.relative_to(root).as_posix()
                is_audio = path.suffix.lower() in AUDIO_SUFFIXES
                if under in f"/{relpath}" and is_audio and not path.is_symlink() and path.is_file():
                    yield relpath, path

    def find(self, package: str, pattern: str) -> pathlib.Path | None:
        """The first regular file that matches a glob pattern, or None."""
        for root in self.roots(package):
            for path in sorted(root.rglob(pattern)):
                if path.is_file() and not path.is_symlink():
                    return path
        return None
