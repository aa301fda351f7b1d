"""Finds sounds that share elastic landmarks: other speeds, pitches and tempos, and short stretches of long clips.

Two clips match if enough of their common landmarks agree on one ratio of frequencies and on one line from the times of
the one to those of the other. Like ``near.py`` an inverted index of the evaluation side, through which the other side
is streamed in blocks: 8 bytes per landmark and a table of 16 MiB.
"""

import numpy as np

from alp_jax.data.audio.elastic import CLOCK_BITS, KEY_BITS, PITCH_BITS, PITCHES
from alp_jax.data.audit.near import COMMON, Pairs, by_hits, in_runs

MIN_VOTES, MIN_TIMES = 6, 3  # landmarks that must agree on a ratio and a line, and distinct times among them
MAX_BEND = PITCHES // 6  # steps of pitch: 12 %
SLOPES = np.arange(-5, 6) * 0.02 + 1.0  # of the line
_SHIFT = 8  # frames by which landmarks may leave the line, and two steps of pitch the ratio
_HITS = 4_000_000  # handled at a time, about 100 bytes each


class Stretched:
    """The indexed side. Clip ``c`` has the landmarks ``values[bounds[c]:bounds[c + 1]]``.

    Args:
      values: uint64[M], as ``elastic`` gives them.
      bounds: int64[C + 1].
    """

    def __init__(self, values: np.ndarray, bounds: np.ndarray):
        self.num_clips = len(bounds) - 1
        key, pitch, time = _parts(values)
        order = np.argsort(key, kind="stable")
        key = key[order]
        count = np.bincount(key, minlength=1 << KEY_BITS)
        keep = count[key] <= COMMON
        count[count > COMMON] = 0
        self._starts = np.concatenate([[0], np.cumsum(count)])
        order = order[keep]
        self._clip = np.repeat(np.arange(self.num_clips, dtype=np.int32), np.diff(bounds))[order]
        self._pitch, self._time = pitch[order].astype(np.int16), time[order].astype(np.uint16)

    def match(self, values: np.ndarray, bounds: np.ndarray) -> Pairs:
        """The matches of a block of clips, in the form of the indexed side; memory is bounded for any size."""
        key, pitch, time = _parts(values)
        first = self._starts[key]
        hits = self._starts[key + 1] - first
        total = np.concatenate([[0], np.cumsum(hits, dtype=np.int64)])[bounds]
        owner = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        parts = []
        for begin, end in by_hits(total, _HITS):
            part = slice(bounds[begin], bounds[end])
            which = np.repeat(np.arange(part.start, part.stop), hits[part])
            entry = np.arange(len(which)) - np.repeat(np.cumsum(hits[part]) - hits[part], hits[part]) + first[which]
            bend = pitch[which] - self._pitch[entry]
            close = np.abs(bend) <= MAX_BEND
            which, entry, bend = which[close], entry[close], bend[close]
            pair = owner[which] * self.num_clips + self._clip[entry]
            found, votes = _agreeing(pair, bend, time[which], self._time[entry].astype(np.int64))
            parts.append((found // self.num_clips, found % self.num_clips, votes))
        columns = zip(*parts, strict=True) if parts else [[np.zeros(0, np.int64)]] * 3
        return Pairs(*(np.concatenate(column) for column in columns))


def _parts(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hash, pitch and time, each int64."""
    values = values.astype(np.int64)
    pitch = values >> CLOCK_BITS & ((1 << PITCH_BITS) - 1)
    return values >> (PITCH_BITS + CLOCK_BITS), pitch, values & ((1 << CLOCK_BITS) - 1)


def _agreeing(pair: np.ndarray, bend: np.ndarray, mine: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, ...]:
    """The pairs (int64, ascending) of which enough hits agree, and how many do.

    Args:
      pair, bend, mine, theirs: int64[H]; of every hit the pair, the difference in pitch, and the two times.
    """
    # Hits that share a pair, and then a bend, with too few others are dropped before anything costly.
    order = np.argsort(pair)
    order = order[in_runs(pair[order], MIN_VOTES)]
    pair, bend, mine, theirs = pair[order], bend[order], mine[order], theirs[order]
    # windows of two steps, each overlapped by the next by one
    wide = 2 * MAX_BEND + 4
    key = np.concatenate([pair * wide + bend + MAX_BEND + d for d in (0, 1)])
    order = np.argsort(key)
    order = order[in_runs(key[order], MIN_VOTES)]
    key, mine, theirs = key[order], np.tile(mine, 2)[order], np.tile(theirs, 2)[order]
    if not len(key):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    _, window = np.unique(key, return_inverse=True)
    votes = np.zeros(len(key), np.int64)
    for slope in SLOPES:
        shift = np.rint((mine - slope * theirs) / _SHIFT).astype(np.int64) + (1 << 20)
        for late in (0, 1):
            line = ((window << 22) + shift + late << 16) | mine
            order = np.argsort(line)
            _, first, count = np.unique(line[order] >> 16, return_index=True, return_counts=True)
            fresh = np.ones(len(line), np.int64)
            fresh[1:] = line[order][1:] != line[order][:-1]
            times = np.add.reduceat(fresh, first)
            count = np.where(times >= MIN_TIMES, count, 0)
            votes[order] = np.maximum(votes[order], np.repeat(count, np.diff(np.append(first, len(line)))))
    good = votes >= MIN_VOTES
    found, where = np.unique(key[good] // wide, return_inverse=True)
    best = np.zeros(len(found), np.int64)
    np.maximum.at(best, where, votes[good])
    return found, best
