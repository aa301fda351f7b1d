"""Targets for supervised training of an encoder: the tags of a data set, its labels, or the words of its captions.

Caption words as targets follow the authors' later work on tags from captions (arXiv 2603.25767), but take the words as
they are, where that work has a language model parse the captions.
"""

import dataclasses
import math
import os
import pathlib
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json, write_json
from alp_jax.core.names import choose
from alp_jax.core.progress import Progress
from alp_jax.data.store.records import Record
from alp_jax.data.text.normalise import normalise

TAG_KINDS = ("tags", "labels", "captions")
_READ = 1024  # records at a time


def found_in(record: Record, kind: str) -> set[str]:
    """The tags of a clip: its ``tags``, its ``labels`` as TASK=VALUE, or the words of all its ``captions``."""
    if kind == "tags":
        return set(record.tags)
    if kind == "labels":
        return {f"{task}={value}" for task, value in record.labels.items()}
    return {word for caption in record.captions for word in normalise(caption).split()}


@dataclasses.dataclass(frozen=True)
class TagList:
    """The tags to learn, in the order of the model's outputs.

    Attributes:
      kind: where they come from, one of ``TAG_KINDS``.
      names: the tags, all distinct.
    """

    kind: str
    names: tuple[str, ...]

    def __post_init__(self):
        object.__setattr__(self, "_index", {name: i for i, name in enumerate(self.names)})

    def __len__(self) -> int:
        return len(self.names)

    @staticmethod
    def load(path: str | os.PathLike) -> "TagList":
        """Reads what ``save`` wrote.

        Raises:
          UserError: the file is missing or holds no list of different tags.
        """
        if not pathlib.Path(path).is_file():
            raise UserError(f"config.data.tags = {path}: there is no such file; 'alp tags' makes one")
        content = read_json(pathlib.Path(path), "list of tags")
        names = content.get("tags") if isinstance(content, dict) else None
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise UserError(f"config.data.tags = {path} does not hold a list of tags; 'alp tags' makes one")
        if len(set(names)) < len(names):
            twice = next(name for name, n in Counter(names).items() if n > 1)
            raise UserError(f"config.data.tags = {path}: tag {twice!r} is listed twice")
        return TagList(choose(content.get("kind", ""), TAG_KINDS, f"kind in {path}"), tuple(names))

    def save(self, path: str | os.PathLike, clips: Counter[str]) -> None:
        """Writes the tags, each with the number of training clips that have it (``clips``)."""
        content = {"kind": self.kind, "tags": list(self.names), "clips": [clips[name] for name in self.names]}
        write_json(pathlib.Path(path), content)

    def mask(self, record: Record) -> np.ndarray:
        """bool[V]: which tags a clip has."""
        has_V = np.zeros(len(self.names), bool)
        has_V[[self._index[name] for name in found_in(record, self.kind) if name in self._index]] = True
        return has_V


def training_tags(dataset, kind: str) -> Iterator[set[str]]:
    """The tags of every training clip in use, straight from the records, with progress."""
    rows = dataset.ladder_rows()
    with Progress("read tags", len(rows), "clips") as progress:
        for first in range(0, len(rows), _READ):
            for record in dataset.read_many(rows[first : first + _READ], audio=False):
                progress.update()
                yield found_in(record, kind)


def choose_tags(
    clips: Iterable[set[str]], kind: str, size: int, *, min_clips: int = 1, max_share: float = 1.0
) -> tuple[TagList, Counter[str], int]:
    """Chooses the ``size`` most informative tags.

    Tags and labels rank by how many clips have them; words of captions by that number times the logarithm of its
    inverse share (term frequency times inverse document frequency, TF-IDF, summed over clips), so that words that occur
    almost everywhere come last.

    Args:
      clips: the tags of every clip.
      min_clips: rarer tags are left out.
      max_share: tags of more than this share of the clips are left out.

    Returns:
      (the tags, clips by tag, number of clips)

    Raises:
      UserError: no tag is left.
    """
    counts: Counter[str] = Counter()
    total = 0
    for tags in clips:
        counts.update(tags)
        total += 1

    def worth(name: str) -> float:
        return counts[name] * math.log(total / counts[name]) if kind == "captions" else counts[name]

    able = [name for name, n in counts.items() if min_clips <= n <= max_share * total]
    if not able:
        raise UserError(
            f"no {kind} are left of {len(counts)} in {total} training clips: lower --min_clips {min_clips}, raise "
            f"--max_share {max_share:g} or take another --kind"
        )
    ranked = sorted(able, key=lambda name: (-worth(name), name))[:size]
    return TagList(kind, tuple(ranked)), counts, total
