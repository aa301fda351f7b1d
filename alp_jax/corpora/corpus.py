"""Defines what a corpus is: one module whose CORPUS answers every question about it."""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping

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
    """A setting of a corpus, given as text; without ``choices`` any text is allowed."""

    help: str
    default: str = ""
    choices: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Download:
    """How a corpus is fetched and then read from a cache folder, instead of from files that the user names.

    Attributes:
      fetch: ``(cache folder, tier) -> {package: facts about it, with "missing" if it could not be downloaded}``.
      collect: ``(cache folder, tier) -> (clips, account of what was left out)``.
      write_credits: ``(cache folder, clips, path)`` writes credits for the audio to a text file.
    """

    fetch: Callable[..., dict[str, dict]]
    collect: Callable[..., tuple[list[Clip], dict]]
    write_credits: Callable[..., object]


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A corpus that ``registry.get`` finds: a module of captioned/ or benchmarks/, or an entry point, defines it.

    Attributes:
      name: what users type; the name of its module, or of its entry point.
      title: one line about the corpus.
      metadata: the published files that it expects, as a sentence.
      audio: what the audio folder holds and how files are found in it; "" if the metadata holds the audio.
      read: ``(metadata paths, audio root or None, split or None, **options) -> clips and rejected rows``, streaming.
      suffixes: of the metadata files to take from a folder that is given instead of them; empty: the folder itself.
      options: name -> Option.
      official_split: where the split of every clip is published, as a sentence; "" if ``split`` may be given.
      split_rule: ``(metadata paths, split or None, **options) -> how clips are split if the metadata names no split,
        or None``; None for published corpora, which have splits.
      containers: suffixes of files that hold metadata and audio; a folder may then hold both, too.
      download: for a corpus without ``read``.
      remote_audio: whether ``read`` takes the URL of an audio folder, as text, in place of a path.
    """

    name: str
    title: str
    metadata: str
    audio: str = ""
    read: Callable[..., Clips] | None = None
    suffixes: tuple[str, ...] = ()
    options: Mapping[str, Option] = dataclasses.field(default_factory=dict)
    official_split: str = ""
    split_rule: Callable[..., SplitRule | None] | None = None
    containers: tuple[str, ...] = ()
    download: Download | None = None
    remote_audio: bool = False

    def __post_init__(self):
        for member in ("name", "title", "metadata"):
            if not getattr(self, member):
                raise UserError(f"corpus {self.name!r} does not state {member}")
        if (self.read is None) == (self.download is None):
            raise UserError(f"corpus {self.name!r} must have either read or download")


def split_words(name: str, extra: Mapping[str, str] | None = None) -> set[str]:
    """The splits that the words of a name stand for."""
    words = SPLIT_WORDS | dict(extra or {})
    return {words[word] for word in re.findall("[a-z]+", name.lower()) if word in words}


def split_of(path: pathlib.Path, given: str | None, default: str | None, extra: Mapping[str, str] | None = None) -> str:
    """The split of a metadata file: ``given``, else the one in its name, else ``default``.

    Args:
      extra: words whose meaning in this corpus differs from SPLIT_WORDS.

    Raises:
      UserError: the name states no split and there is no default, or it names several splits.
    """
    if given is not None:
        return given
    splits = split_words(path.name, extra)
    if len(splits) == 1:
        return splits.pop()
    if not splits and default is not None:
        return default
    problem = "several splits" if splits else "no split"
    raise UserError(f"{path}: the name tells {problem}; give --split {'|'.join(SPLITS)}, one call for each split")
