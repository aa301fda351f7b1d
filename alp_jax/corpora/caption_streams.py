"""Captions of published metadata or of a built data set, as ``alp data captions`` and ``alp tokenizer`` read them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from alp_jax.core.clip import REJECTIONS, SPLITS, Rejected
from alp_jax.core.errors import UserError
from alp_jax.core.names import choose
from alp_jax.corpora import registry

_SHOWN = 3
_ROWS = 256  # of a data set, read at a time


class Captions(NamedTuple):
    """The captions of one clip."""

    source: str
    split: str
    clip: str
    texts: tuple[str, ...]


class Published:
    """Iterates over the captions of published corpora.

    Attributes:
      clips: None, since their number is not known.
      rejected: reason -> {"count", "meaning", "rows" (the first of them)}, filled while iterating.
    """

    def __init__(
        self, sources: Sequence[str], metadata: Sequence[Sequence[str]], options: Sequence[str], split: str | None
    ):
        """Opens the corpora.

        Args:
          sources: names of corpora; ``metadata`` has the files of each.
          options: ``KEY=VALUE`` texts; each applies to the corpora that have that option.

        Raises:
          UserError: as ``registry.read``, and for incompatible arguments.
        """
        if len(sources) != len(metadata):
            raise UserError(
                f"{len(sources)} --source and {len(metadata)} --metadata: give each --source one --metadata"
            )
        settings = registry.parse_options(options)
        corpora = [registry.get(name, "--source") for name in sources]
        for key in settings:
            choose(key, sorted({name for corpus in corpora for name in corpus.options}) or ["none"], "--option")
        self._streams = []
        for corpus, files in zip(corpora, metadata, strict=True):
            own = {key: value for key, value in settings.items() if key in corpus.options}
            self._streams.append(registry.read(corpus.name, files, split=split, **own))
        self.clips = None
        self.rejected: dict[str, dict] = {}

    def __iter__(self) -> Iterator[Captions]:
        for stream in self._streams:
            for clip in stream:
                if isinstance(clip, Rejected):
                    entry = self.rejected.setdefault(
                        clip.reason, {"count": 0, "meaning": REJECTIONS[clip.reason], "rows": []}
                    )
                    entry["count"] += 1
                    if len(entry["rows"]) < _SHOWN:
                        entry["rows"].append(f"{clip.where}: {clip.detail}" if clip.detail else clip.where)
                else:
                    yield Captions(clip.source, clip.split, clip.id, clip.captions)


class Stored:
    """Iterates over the captions of the clips of a data set that are in use, in stored order.

    Attributes:
      clips: their number. rejected: empty.
    """

    def __init__(self, dataset):
        self._dataset = dataset
        self._rows = np.sort(np.concatenate([dataset.rows(split) for split in SPLITS]))
        self.clips = len(self._rows)
        self.rejected: dict[str, dict] = {}

    def __iter__(self) -> Iterator[Captions]:
        for first in range(0, self.clips, _ROWS):
            for record in self._dataset.read_many(self._rows[first : first + _ROWS], audio=False):
                yield Captions(record.source, record.split, record.id, record.captions)
