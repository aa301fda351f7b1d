"""Statistics of the captions of a corpus in one pass: lengths, words, diversity, repetition, language, artefacts.

Memory is bounded for any number of captions, except for 16 bytes per caption (duplicates are counted exactly) and for
the distinct words.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from alp_jax.core.hashing import hash64
from alp_jax.data.text.artefacts import ARTEFACTS
from alp_jax.data.text.tallies import Artefacts, Block, Diversity, Language, Lengths, Numbers, Repetition

DEFINITIONS = {
    "words": "text after NFKC and case folding, split at all but letters, digits and _: it's is two words",
    "distinct_words": "different words; the CaptionStew paper counts 56,586 in 10.7 million captions and does not say "
    "how it splits them",
    "distinct_n": "Distinct-n (Li et al. 2016): different n-grams of words over all n-grams, none across captions. "
    "With a standard_error, distinct is an estimate with that relative error",
    "at_equal_size": "Distinct-n of 1,000 captions drawn by a hash of clip and caption: Distinct-n falls with size, so "
    "that only this compares sources",
    "duplicates": "captions that repeat an earlier one: exact compares letter by letter, normalised by words alone",
    "openings": "the first four words; common_openings counts captions that begin with one of the ten most common",
    "counts_too_low_by": "at most, counts in most_repeated and openings, where not all texts could be kept",
    "not_english": "by script or, with a probability of at least 0.5, by py3langid; beyond 65,536 captions of a source "
    "scaled up from a sample of that size drawn by hash (looked_at)",
    "defects": "captions with at least one artefact that should not be in a caption; other artefacts are style",
}
_BLOCK = 8192  # captions counted at a time
_EXACT = 1 << 22  # distinct n-grams of a source up to which they are counted exactly


class CaptionStatistics:
    """Collects captions by source.

    Args:
      tokens: caption -> number of tokens; None: tokens are not counted.
      budget: how many tokens of a caption training keeps.
      exact: distinct n-grams of a source that are counted exactly; beyond these their number is estimated.
    """

    def __init__(self, tokens: Callable[[str], int] | None = None, budget: int = 0, exact: int = _EXACT):
        self._tokens, self._budget, self._exact = tokens, budget, exact
        self._sources: dict[str, _Source] = {}
        self._numbers = Numbers()

    def _source(self) -> "_Source":
        tallies = [Lengths("words_per_caption", lambda block: block.lengths)]
        if self._tokens:
            count = self._tokens

            def lengths(block: Block) -> np.ndarray:
                return np.fromiter(map(count, block.captions), np.int64, len(block.captions))

            tallies.append(Lengths("tokens_per_caption", lengths, self._budget))
        return _Source(self._numbers, [*tallies, Diversity(self._exact), Repetition(), Language(), Artefacts()])

    def add(self, source: str, split: str, clip: str, captions: Sequence[str]) -> None:
        """Adds the captions of the clip with the id ``clip``; a clip without captions is not counted at all."""
        if not captions:
            return
        if source not in self._sources:
            self._sources[source] = self._source()
        self._sources[source].add(split, clip, captions)

    def result(self) -> dict[str, Any]:
        """The statistics of everything added so far.

        Returns:
          {"definitions", "artefacts" (meaning of each kind), "sources": {source: row}, "all": row}; DEFINITIONS says
          what the fields of a row count. Without captions there is no source, and "all" is empty.
        """
        # The words of all sources are numbered by one Numbers; without that their counts could not be added up here.
        total = self._source()
        rows = {}
        for name, source in sorted(self._sources.items()):
            rows[name] = source.row()
            total.merge(source)
        kinds = {name: {"meaning": kind.meaning, "defect": kind.defect} for name, kind in ARTEFACTS.items()}
        return {"definitions": DEFINITIONS, "artefacts": kinds, "sources": rows, "all": total.row() if rows else {}}


class _Source:
    """Everything that is counted about one source."""

    def __init__(self, numbers: Numbers, tallies: list):
        self._numbers, self._tallies = numbers, tallies
        self._splits: dict[str, Counter[str]] = {}
        self._captions: list[str] = []
        self._keys: list[int] = []

    def add(self, split: str, clip: str, captions: Sequence[str]) -> None:
        counts = self._splits.setdefault(split, Counter(clips=0, captions=0))
        counts["clips"] += 1
        counts["captions"] += len(captions)
        self._captions.extend(captions)
        self._keys.extend(hash64(0, f"{clip} {i}") for i in range(len(captions)))
        if len(self._captions) >= _BLOCK:
            self._count()

    def _count(self) -> None:
        if self._captions:
            block = Block.of(self._captions, self._keys, self._numbers)
            self._captions, self._keys = [], []
            for tally in self._tallies:
                tally.add(block)

    def merge(self, other: "_Source") -> None:
        """Adds everything that ``other`` was given."""
        other._count()
        for split, counts in other._splits.items():
            self._splits.setdefault(split, Counter()).update(counts)
        for mine, theirs in zip(self._tallies, other._tallies, strict=True):
            mine.merge(theirs)

    def row(self) -> dict[str, Any]:
        self._count()
        row: dict[str, Any] = {
            "clips": sum(counts["clips"] for counts in self._splits.values()),
            "captions": sum(counts["captions"] for counts in self._splits.values()),
            "splits": {split: dict(counts) for split, counts in sorted(self._splits.items())},
        }
        for tally in self._tallies:
            row |= tally.row()
        return row
