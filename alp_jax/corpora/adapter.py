"""What every corpus adapter is: a function from metadata files to clips, and what users need to know to call it."""

import dataclasses
import glob
import itertools
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from alp_jax.core.clip import SPLITS, Clip, Rejected
from alp_jax.core.errors import UserError
from alp_jax.corpora.splits import SplitRule

Clips = Iterator[Clip | Rejected]
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "valid"),
    **dict.fromkeys(("test", "eval", "evaluation", "holdout"), "test"),
}


@dataclasses.dataclass(frozen=True)
class Option:
    """A setting of an adapter, given as text. ``choices`` empty: any text."""

    help: str
    default: str = ""
    choices: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Adapter:
    """A corpus that ``registry.read`` can read.

    Attributes:
      read: ``(metadata paths, audio root or None, split or None, **options) -> clips and rejected rows``, streaming.
      help: one line about the corpus.
      metadata: which files it expects, as published.
      audio: what the audio folder holds and how files are found in it; "" when the metadata holds the audio.
      suffixes: the metadata files that are taken out of a folder given in their place; empty: the folder itself.
      options: name -> Option.
      split_rule: ``(metadata paths, split or None, **options) -> how clips are split where the metadata names no split,
        or None``; None for published corpora, which have theirs.
      own: people's own data: the folder of audio may hold the metadata, and containers need no folder.
    """

    read: Callable[..., Clips]
    help: str
    metadata: str
    audio: str
    suffixes: tuple[str, ...]
    options: Mapping[str, Option] = dataclasses.field(default_factory=dict)
    split_rule: Callable[..., SplitRule | None] | None = None
    own: bool = False


def split_words(name: str, extra: Mapping[str, str] | None = None) -> set[str]:
    """The splits that the words of a name stand for."""
    words = SPLIT_WORDS | dict(extra or {})
    return {words[word] for word in re.findall("[a-z]+", name.lower()) if word in words}


def split_of(path: pathlib.Path, given: str | None, default: str | None, extra: Mapping[str, str] | None = None) -> str:
    """The split of a metadata file: ``given``, else what its name says, else ``default``.

    Args:
      extra: words that mean something else in this corpus than in SPLIT_WORDS.

    Raises:
      UserError: the name says nothing and there is no default, or it names several splits.
    """
    found = split_words(path.name, extra)
    if given is not None:
        return given
    if len(found) == 1:
        return found.pop()
    if not found and default is not None:
        return default
    problem = "several splits" if found else "no split"
    raise UserError(f"{path}: the name tells {problem}; give --split {'|'.join(SPLITS)}, one call for each split")


def metadata_files(paths: Sequence[pathlib.Path], suffixes: Sequence[str]) -> list[pathlib.Path]:
    """``paths`` with patterns (``*``, ``?``, ``[...]``) replaced by what they match, and folders by the files in them
    that have one of ``suffixes``, sorted."""
    found = []
    for path in itertools.chain.from_iterable(map(_matches, paths)):
        if path.is_dir() and suffixes:
            try:
                inside = sorted(path / name for name in os.listdir(path) if name.endswith(tuple(suffixes)))
            except OSError as error:
                raise UserError(f"metadata folder {path} cannot be read: {error.strerror}") from None
            if not inside:
                raise UserError(f"metadata folder {path} holds no {' or '.join(suffixes)} file")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"metadata {path} does not exist")
    return found


def _matches(path: pathlib.Path) -> list[pathlib.Path]:
    """The files that a pattern matches; ``path`` itself when it is there or is no pattern."""
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    found = sorted(map(pathlib.Path, glob.glob(str(path), recursive=True)))
    if not found:
        raise UserError(f"no file matches {path}")
    return found
