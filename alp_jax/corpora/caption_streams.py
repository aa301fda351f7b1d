"""Captions of published metadata or of a built data set, as ``alp data captions`` and ``alp tokenizer`` take them."""

import argparse
from collections.abc import Iterator
from typing import NamedTuple

from alp_jax.core.clip import REJECTIONS, SPLITS, Rejected
from alp_jax.core.errors import UserError

_SHOWN = 3
_ROWS = 256  # of a data set that are read at a time


class Captions(NamedTuple):
    """The captions of one clip."""

    source: str
    split: str
    clip: str
    texts: tuple[str, ...]


def add_metadata(parser: argparse.ArgumentParser) -> None:
    """Adds --source, --metadata, --option and --split."""
    group = parser.add_argument_group("captions as they were published; no audio is needed")
    group.add_argument(
        "--source", action="append", default=[], metavar="NAME", help="corpus, as in 'alp data build'; may be repeated"
    )
    group.add_argument(
        "--metadata", action="append", nargs="+", default=[], metavar="FILE", help="its files, after each --source"
    )
    group.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="a setting of the corpora that have it"
    )
    group.add_argument("--split", choices=SPLITS, help="split of all clips (default: what the metadata says)")


class Published:
    """Iterates over the captions of the corpora that ``args`` name.

    Attributes:
      clips: None, as it is not known how many there are.
      rejected: reason -> {"count", "meaning", "rows" (the first of them)}, filled while iterating.

    Raises:
      UserError: as ``registry.read``, and for arguments that do not fit together.
    """

    def __init__(self, args: argparse.Namespace):
        from alp_jax.core.names import choose
        from alp_jax.corpora import registry

        if len(args.source) != len(args.metadata):
            raise UserError(f"{len(args.source)} --source and {len(args.metadata)} --metadata: give one for each other")
        options = {key: value for key, sign, value in (text.partition("=") for text in args.option) if sign}
        if len(options) != len(args.option):
            raise UserError(f"--option {args.option[-1]}: give each as KEY=VALUE, once")
        adapters = [registry.ADAPTERS[choose(name, registry.ADAPTERS, "--source")] for name in args.source]
        for key in options:
            choose(key, sorted({name for adapter in adapters for name in adapter.options}) or ["none"], "--option")
        self._streams = []
        for name, files, adapter in zip(args.source, args.metadata, adapters, strict=True):
            mine = {key: value for key, value in options.items() if key in adapter.options}
            self._streams.append(registry.read(name, files, split=args.split, **mine))
        self.clips = None
        self.rejected: dict[str, dict] = {}

    def __iter__(self) -> Iterator[Captions]:
        for stream in self._streams:
            for clip in stream:
                if isinstance(clip, Rejected):
                    self._reject(clip)
                else:
                    yield Captions(clip.source, clip.split, clip.id, clip.captions)

    def _reject(self, row: Rejected) -> None:
        entry = self.rejected.setdefault(row.reason, {"count": 0, "meaning": REJECTIONS[row.reason], "rows": []})
        entry["count"] += 1
        if len(entry["rows"]) < _SHOWN:
            entry["rows"].append(f"{row.where}: {row.detail}" if row.detail else row.where)


class Stored:
    """Iterates over the captions of the clips of a data set that are in use, in stored order.

    Attributes:
      clips: how many. rejected: empty.
    """

    def __init__(self, dataset):
        import numpy as np

        self._dataset = dataset
        self._rows = np.sort(np.concatenate([dataset.rows(split) for split in SPLITS]))
        self.clips = len(self._rows)
        self.rejected: dict[str, dict] = {}

    def __iter__(self) -> Iterator[Captions]:
        for first in range(0, self.clips, _ROWS):
            for record in self._dataset.read_many(self._rows[first : first + _ROWS], audio=False):
                yield Captions(record.source, record.split, record.id, record.captions)
