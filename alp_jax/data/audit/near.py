"""Finds sounds that share landmarks: an inverted index of one side, through which the other is streamed in blocks.

Two clips are near duplicates if enough of their common landmarks imply the same shift in time. The evaluation side is
indexed, with 9 bytes per landmark and a table of 64 MiB. The other side costs time in proportion to its landmarks and
to the chance hits, which grow with the product of both sides.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from alp_jax.data.audio.fingerprint import HASH_BITS, TIME_BITS

# Landmarks that must agree on a shift, and distinct times among them; many landmarks at fewer times count too.
MIN_VOTES, MIN_TIMES = 5, 3
MANY_VOTES, FEW_TIMES = 8, 2
COMMON = 64  # clips; a landmark that more indexed clips have tells nothing
_SLACK = 1  # frames by which landmarks may disagree about a shift
_HITS = 4_000_000  # handled at a time, about 100 bytes each
_TIMES = 1 << TIME_BITS


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Near duplicates: clip ``query`` of the streamed side, clip ``indexed`` of the other, and their votes.

    Attributes:
      query, indexed: int64[P], sorted.
      votes: int32[P], landmarks that agree on a shift.
    """

    query: np.ndarray
    indexed: np.ndarray
    votes: np.ndarray


class Landmarks:
    """The indexed side. Clip ``c`` has the fingerprint ``values[bounds[c]:bounds[c + 1]]``.

    Args:
      values: uint32[M], as ``fingerprint`` gives them.
      bounds: int64[C + 1].
    """

    def __init__(self, values: np.ndarray, bounds: np.ndarray):
        self.num_clips = len(bounds) - 1
        order = np.argsort(values, kind="stable")
        key = values[order] >> TIME_BITS
        count = np.bincount(key, minlength=1 << HASH_BITS)
        keep = count[key] <= COMMON  # before the counts of common landmarks are cleared, which empties their lists
        count[count > COMMON] = 0
        self._starts = np.zeros((1 << HASH_BITS) + 1, np.int32 if keep.sum() < 1 << 31 else np.int64)
        np.cumsum(count, out=self._starts[1:])
        owner = np.repeat(np.arange(self.num_clips, dtype=np.int32), np.diff(bounds))
        self._clip = owner[order[keep]]
        self._time = (values[order[keep]] & (_TIMES - 1)).astype(np.uint8)

    def match(self, values: np.ndarray, bounds: np.ndarray) -> Pairs:
        """The near duplicates of a block of clips, in the form of the indexed side; memory is bounded for any size."""
        key = values >> TIME_BITS
        first = self._starts[key]
        hits = self._starts[key + np.uint32(1)] - first
        total = np.concatenate([[0], np.cumsum(hits, dtype=np.int64)])[bounds]
        parts = []
        for begin, end in by_hits(total, _HITS):
            part = slice(bounds[begin], bounds[end])
            rows = self._hits(values[part], first[part], hits[part], np.diff(bounds[begin : end + 1]))
            pairs = _agreeing(rows)
            parts.append((pairs[0] // self.num_clips + begin, pairs[0] % self.num_clips, pairs[1]))
        columns = zip(*parts, strict=True) if parts else [[np.zeros(0, np.int64)]] * 3
        return Pairs(*(np.concatenate(column) for column in columns))

    def _hits(self, values: np.ndarray, first: np.ndarray, hits: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Every common landmark as pair << 16 | shift << 8 | time, uint64, where pair = query * num_clips + indexed."""
        query = np.repeat(np.arange(len(lengths)), lengths)
        which = np.repeat(np.arange(len(values)), hits)
        # the n-th hit of a landmark is the n-th entry of its list: count up from the list's start
        entry = np.arange(len(which)) - np.repeat(np.cumsum(hits) - hits, hits) + first[which]
        time = values[which] & np.uint32(_TIMES - 1)
        # modulo 256, as times wrap: uint32 wraps around too, and the mask keeps the low 8 bits of the difference
        shift = (time - self._time[entry]) & np.uint32(_TIMES - 1)
        pair = query[which] * self.num_clips + self._clip[entry]
        return pair.astype(np.uint64) << np.uint64(16) | (shift << np.uint32(8) | time).astype(np.uint64)


def by_hits(total: np.ndarray, hits: int) -> Iterator[tuple[int, int]]:
    """Cuts clips, of cumulative ``total`` hits, into pieces of about ``hits`` hits and at least one clip."""
    begin, clips = 0, len(total) - 1
    while begin < clips:
        end = max(begin + 1, int(np.searchsorted(total, total[begin] + hits, side="right")) - 1)
        yield begin, end
        begin = end


def _agreeing(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs (ascending) whose landmarks agree on a shift, and how many do, from the result of ``_hits``."""
    rows = np.sort(rows)
    rows = rows[in_runs(rows >> np.uint64(16), MIN_VOTES)]  # drops most chance hits before anything costly
    pair, shift, time = rows >> np.uint64(16), rows >> np.uint64(8) & np.uint64(255), rows & np.uint64(255)
    # a hit votes for its own shift and for those beside it, so that hits _SLACK frames apart still agree
    near = [
        pair << np.uint64(16) | ((shift + np.uint64(d % _TIMES)) & np.uint64(255)) << np.uint64(8) | time
        for d in range(-_SLACK, _SLACK + 1)
    ]
    near = np.sort(np.concatenate(near))
    pair_shift, first, votes = np.unique(near >> np.uint64(8), return_index=True, return_counts=True)
    fresh = np.ones(len(near), np.int64)  # time is in the lowest bits, so equal times of a shift are adjacent
    fresh[1:] = near[1:] != near[:-1]
    times = np.add.reduceat(fresh, first) if len(first) else votes
    good = ((votes >= MIN_VOTES) & (times >= MIN_TIMES)) | ((votes >= MANY_VOTES) & (times >= FEW_TIMES))
    pair, start = np.unique(pair_shift[good] >> np.uint64(8), return_index=True)
    best = np.maximum.reduceat(votes[good], start) if len(pair) else votes[:0]
    return pair.astype(np.int64), best


def in_runs(values: np.ndarray, least: int) -> np.ndarray:
    """Which of the sorted ``values`` occur at least ``least`` times; bool[n]."""
    far = len(values) - least + 1
    starts = np.zeros(len(values) + 1, np.int64)
    if far > 0:
        same = np.flatnonzero(values[:far] == values[least - 1 :])
        # each stretch of ``least`` equal values opens at its first and closes after its last; the sum counts open ones
        np.add.at(starts, same, 1)
        np.add.at(starts, same + least, -1)
    return np.cumsum(starts[:-1]) > 0
