"""Counting a stream in bounded memory: exact while the stream is small, beyond that an estimate with its error."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

_PENDING = 1 << 18  # hashes collected before they are sorted into the kept ones
_LARGEST = (1 << 64) - 1


class DistinctHashes:
    """Counts distinct 64-bit hashes.

    Exact up to ``limit``. Beyond it only hashes up to a bound are kept, and the bound is halved whenever more than
    ``limit`` remain (Wegman's adaptive sampling, analysed by Flajolet, 1990). The estimate is the number kept, times
    two for every halving.
    """

    def __init__(self, limit: int):
        self._limit, self._halvings = limit, 0
        self._kept = np.zeros(0, np.uint64)
        self._pending: list[np.ndarray] = []
        self._waiting = 0

    def add(self, hashes: np.ndarray) -> None:
        """Adds uint64[n] hashes, which must be uniform over 64 bits."""
        if self._halvings:
            hashes = hashes[hashes <= self._bound]
        self._pending.append(hashes)
        self._waiting += len(hashes)
        if self._waiting > max(_PENDING, len(self._kept) // 2):
            self._settle()

    def merge(self, other: "DistinctHashes") -> None:
        """Adds everything that ``other`` was given."""
        other._settle()
        # Both sides must be cut at the same bound: the estimate scales everything kept by one factor.
        self._halvings = max(self._halvings, other._halvings)
        self.add(other._kept)
        self._settle()

    @property
    def _bound(self) -> np.uint64:
        return np.uint64(_LARGEST >> self._halvings)

    def _settle(self) -> None:
        # Pending hashes may predate a halving, so the bound is applied again after they are sorted in.
        self._kept = np.unique(np.concatenate((self._kept, *self._pending)))
        self._pending, self._waiting = [], 0
        self._kept = self._kept[: np.searchsorted(self._kept, self._bound, "right")]
        while len(self._kept) > self._limit:
            self._halvings += 1
            # a copy, because a slice would keep the larger array alive
            self._kept = self._kept[: np.searchsorted(self._kept, self._bound, "right")].copy()

    def count(self) -> tuple[int, float]:
        """(number of distinct hashes, relative standard error: 0 when exact)."""
        self._settle()
        if not self._halvings:
            return len(self._kept), 0.0
        return len(self._kept) << self._halvings, math.sqrt((1 - 0.5**self._halvings) / max(1, len(self._kept)))


class FrequentTexts:
    """The most frequent texts: exact up to ``2 * limit`` distinct texts; beyond that the counts are lower bounds.

    When there are more, the ``limit``-th largest count is subtracted from all of them, and texts that reach 0 are
    dropped (Agarwal et al., Mergeable Summaries, 2013).

    Attributes:
      slack: the most by which a count may be too low.
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
            # A text loses at most ``cut`` in each pruning, whether it is kept now or dropped and seen again later.
            self.slack += cut

    def top(self, n: int) -> list[tuple[str, int]]:
        """The ``n`` most frequent, with their counts; ties in alphabetical order."""
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))[:n]


class HashSample:
    """The ``limit`` texts with the smallest keys: a sample that depends on the keys alone, not on their order.

    Attributes:
      seen: number of texts offered.
    """

    def __init__(self, limit: int):
        self._limit, self.seen = limit, 0
        self._keys = np.zeros(0, np.uint64)
        self._texts: list[str] = []
        self._bound = np.uint64(_LARGEST)

    def add(self, keys: np.ndarray, texts: Sequence[str]) -> None:
        """Offers ``texts`` with ``keys`` uint64[n], which must be uniform over 64 bits."""
        self.seen += len(keys)
        low = np.flatnonzero(keys <= self._bound)
        self._keys = np.concatenate((self._keys, keys[low]))
        self._texts.extend(texts[i] for i in low)
        if len(self._keys) > self._limit + self._limit // 4:
            self._settle()

    def merge(self, other: "HashSample") -> None:
        """Adds everything that ``other`` was offered."""
        seen = self.seen + other.seen  # ``add`` would count only what ``other`` has kept
        self.add(other._keys, other._texts)
        self.seen = seen

    def _settle(self) -> None:
        order = np.argsort(self._keys, kind="stable")[: self._limit]
        self._keys, self._texts = self._keys[order], [self._texts[i] for i in order]
        if len(order) == self._limit:
            self._bound = self._keys[-1]

    def texts(self) -> list[str]:
        """The sample in order of its keys."""
        self._settle()
        return self._texts
