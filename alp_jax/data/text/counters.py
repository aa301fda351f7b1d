"""Counting in a stream with bounded memory: exact while it is small, an estimate that says so beyond."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

_PENDING = 1 << 18  # hashes that are collected before they are sorted in
_LARGEST = (1 << 64) - 1


class DistinctHashes:
    """How many different 64-bit hashes were added.

    Exact up to ``limit`` of them. Beyond, only hashes below a bound are kept, and the bound is halved whenever they
    exceed ``limit`` (Wegman's adaptive sampling, analysed by Flajolet, 1990): what is kept, times two per halving.
    """

    def __init__(self, limit: int):
        self._limit, self._halvings = limit, 0
        self._kept = np.zeros(0, np.uint64)
        self._pending: list[np.ndarray] = []
        self._waiting = 0

    def add(self, hashes: np.ndarray) -> None:
        """Adds uint64[n], evenly spread over 64 bits."""
        if self._halvings:
            hashes = hashes[hashes <= self._bound]
        self._pending.append(hashes)
        self._waiting += len(hashes)
        if self._waiting > max(_PENDING, len(self._kept) // 2):
            self._settle()

    def merge(self, other: "DistinctHashes") -> None:
        """Adds everything that ``other`` was given."""
        other._settle()
        self._halvings = max(self._halvings, other._halvings)
        self.add(other._kept)
        self._settle()

    @property
    def _bound(self) -> np.uint64:
        return np.uint64(_LARGEST >> self._halvings)

    def _settle(self) -> None:
        self._kept = np.unique(np.concatenate((self._kept, *self._pending)))
        self._pending, self._waiting = [], 0
        self._kept = self._kept[: np.searchsorted(self._kept, self._bound, "right")]
        while len(self._kept) > self._limit:
            self._halvings += 1
            self._kept = self._kept[: np.searchsorted(self._kept, self._bound, "right")].copy()

    def count(self) -> tuple[int, float]:
        """(how many, relative standard error: 0 when exact)."""
        self._settle()
        if not self._halvings:
            return len(self._kept), 0.0
        return len(self._kept) << self._halvings, math.sqrt((1 - 0.5**self._halvings) / max(1, len(self._kept)))


class FrequentTexts:
    """The most frequent texts: exact while at most ``2 * limit`` are different, else counts are lower bounds.

    When there are more, the count of the ``limit``-th is taken from all (Agarwal et al., Mergeable Summaries, 2013).

    Attributes:
      slack: by how much a count may be too low.
    """

    def __init__(self, limit: int):
        self._limit, self.slack = limit, 0
        self._counts: Counter[str] = Counter()

    def add(self, texts: Iterable[str]) -> None:
        """Counts each text once more."""
        self._counts.update(texts)
        self._prune()

    def merge(self, other: "FrequentTexts") -> None:
        """Adds everything that ``other`` was given."""
        self._counts.update(other._counts)
        self.slack += other.slack
        self._prune()

    def _prune(self) -> None:
        if len(self._counts) > 2 * self._limit:
            cut = int(np.partition(np.fromiter(self._counts.values(), np.int64), -self._limit)[-self._limit])
            self._counts = Counter({text: count - cut for text, count in self._counts.items() if count > cut})
            self.slack += cut

    def top(self, n: int) -> list[tuple[str, int]]:
        """The ``n`` most frequent, with their counts; equals in alphabetical order."""
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))[:n]


class HashSample:
    """The ``limit`` texts whose keys are smallest: a sample that depends on the keys alone, not on their order.

    Attributes:
      seen: how many were offered.
    """

    def __init__(self, limit: int):
        self._limit, self.seen = limit, 0
        self._keys = np.zeros(0, np.uint64)
        self._texts: list[str] = []
        self._bound = np.uint64(_LARGEST)

    def add(self, keys: np.ndarray, texts: Sequence[str]) -> None:
        """Offers ``texts`` with uint64[n] ``keys``, evenly spread over 64 bits."""
        self.seen += len(keys)
        low = np.flatnonzero(keys <= self._bound)
        self._keys = np.concatenate((self._keys, keys[low]))
        self._texts.extend(texts[i] for i in low)
        if len(self._keys) > self._limit + self._limit // 4:
            self._settle()

    def merge(self, other: "HashSample") -> None:
        """Adds everything that ``other`` was offered."""
        seen = self.seen + other.seen
        self.add(other._keys, other._texts)
        self.seen = seen

    def _settle(self) -> None:
        order = np.argsort(self._keys, kind="stable")[: self._limit]
        self._keys, self._texts = self._keys[order], [self._texts[i] for i in order]
        if len(order) == self._limit:
            self._bound = self._keys[-1]

    def texts(self) -> list[str]:
        """The sample in the order of its keys."""
        self._settle()
        return self._texts
