"""The four ways in which a training clip can be an evaluation clip, and one in which it only shares a recording.

Each class keeps the evaluation side and is given the training side in blocks. The cost of a block depends mostly on the
block alone, except for near duplicates (``near.py``).
"""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alp_jax.core.hashing import hash64
from alp_jax.data.audit.columns import ALWAYS, Columns
from alp_jax.data.audit.near import Landmarks
from alp_jax.data.audit.sets import Evaluation
from alp_jax.data.audit.stretched import Stretched
from alp_jax.data.text.normalise import normalise

RECORDING, CAPTION = "recording", "caption"
LEAK_KINDS = (RECORDING, "audio", "near", CAPTION)  # surest first
SAME_RECORDING = "same_recording"  # not a leak: another, or an unknown, stretch of the recording
TOUCH_S = 0.05  # overlap of two stretches that does not count, because times are rounded
# A caption of fewer words, or shared by more clips on either side, does not identify a clip. Nor does one of several
# captions, because people and templates repeat themselves: SEVERAL must be shared, or all that one of the clips has.
SPECIFIC_WORDS, SPECIFIC_CLIPS, SEVERAL = 5, 3, 2


@dataclasses.dataclass(frozen=True)
class Matches:
    """Training clips of a block, each at most once: positions in it (ascending), and an evaluation clip for each."""

    position: np.ndarray
    eval_clip: np.ndarray


class ByRecording:
    """The same stretch of the same recording.

    Where times are known, stretches match if they overlap; a clip without a stated length lasts to the end of its
    recording. Where a start is not published, clips match if they are known to be the same part of the recording
    (``known.py``), or if one of them is all of it. Other clips that share a recording are returned separately: they
    may be, or certainly are, another stretch.
    """

    def __init__(self, evaluation: Evaluation):
        clips = self._clips = evaluation.clips
        self.seen, self.seen_elsewhere = np.zeros(len(clips), bool), np.zeros(len(clips), bool)
        coded = clips.recording.dictionary_encode()
        self._names, self._of = coded.dictionary, coded.indices.to_numpy().astype(np.int64)
        self._placed = np.flatnonzero(clips.placed)
        self._begin, self._end = ((self._of * ALWAYS + t)[self._placed] for t in (clips.begin_s, clips.end_s))
        self._by_begin = np.argsort(self._begin, kind="stable")
        self._key = _keys(self._of, clips.part)

    def match(self, block: Columns) -> tuple[Matches, Matches]:
        """Clips that are an evaluation clip, and clips that only share a recording with one."""
        number = pc.index_in(block.recording, value_set=self._names).fill_null(-1).to_numpy().astype(np.int64)
        position = np.flatnonzero(number >= 0)
        number, key = number[position], _keys(number[position], block.part[position])
        eval_clip = np.full(len(position), -1)
        self._by_time(block, position, number, eval_clip)
        clips, every = self._clips, np.arange(len(self._clips))
        placed, whole = block.placed[position], block.whole[position]
        same = self._key != 0
        # surest first: a later rule does not replace what an earlier one has filled in
        for block_side, eval_side, own, other in (
            (~placed, same, key, self._key),  # a known part, where the start of either is unknown
            (placed, same & ~clips.placed, key, self._key),
            (np.ones(len(position), bool), clips.whole, number, self._of),
            (whole, ~clips.placed, number, self._of),
            (whole & ~placed, np.ones(len(clips), bool), number, self._of),
        ):
            self._by_value(eval_clip, block_side, every[eval_side], own, other)
        matched = eval_clip >= 0
        elsewhere = np.flatnonzero(~matched)
        first = np.full(len(position), -1)
        self._by_value(first, ~matched, every, number, self._of, self.seen_elsewhere)
        return Matches(position[matched], eval_clip[matched]), Matches(position[elsewhere], first[elsewhere])

    def _by_time(self, block: Columns, position: np.ndarray, number: np.ndarray, eval_clip: np.ndarray) -> None:
        """Fills in ``eval_clip`` for clips of known start that overlap an evaluation clip of known start."""
        placed = np.flatnonzero(block.placed[position])
        base = number[placed] * ALWAYS
        begin = base + block.begin_s[position[placed]]
        end = base + np.maximum(block.end_s[position[placed]] - TOUCH_S, 0)
        some = _overlapping(begin, end, self._begin, self._end) > 0
        placed, begin, end = placed[some], begin[some], end[some]
        self.seen[self._placed] |= _overlapping(self._begin, self._end, begin, end) > 0
        # the last that begins before the end, or, where stretches differ in length, one before that
        at = np.searchsorted(self._begin[self._by_begin], end, side="left") - 1
        while len(early := np.flatnonzero(self._end[self._by_begin[at]] <= begin)):
            at[early] -= 1
        eval_clip[placed] = self._placed[self._by_begin[at]]

    def _by_value(self, eval_clip, block_side, eval_side, own, other, seen=None) -> None:
        """Fills in ``eval_clip`` by equal values, and marks the evaluation clips that were found in ``seen``.

        Compares the values ``own`` of the clips ``block_side`` (bool) with the values ``other`` of the evaluation clips
        ``eval_side`` (numbers).
        """
        values, first = np.unique(other[eval_side], return_index=True)
        rows = np.flatnonzero(block_side)
        if not len(values) or not len(rows):
            return
        at = np.minimum(np.searchsorted(values, own[rows]), len(values) - 1)
        hit = values[at] == own[rows]
        seen = self.seen if seen is None else seen
        seen[eval_side[np.isin(other[eval_side], own[rows[hit]])]] = True
        fresh = hit & (eval_clip[rows] < 0)
        eval_clip[rows[fresh]] = eval_side[first[at[fresh]]]


def _keys(number: np.ndarray, part: np.ndarray) -> np.ndarray:
    """uint64[N], equal for equal parts of equal recordings, 0 where the part is unknown."""
    with np.errstate(over="ignore"):
        mixed = (number.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    return np.where(part == 0, np.uint64(0), (mixed ^ part) | np.uint64(1))


def _overlapping(begin: np.ndarray, end: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """How many of the stretches [begins, ends) overlap each of the stretches [begin, end)."""
    return np.searchsorted(np.sort(begins), end, side="left") - np.searchsorted(np.sort(ends), begin, side="right")


class ByAudio:
    """Exactly the same samples."""

    def __init__(self, evaluation: Evaluation):
        self.seen = np.zeros(len(evaluation.clips), bool)
        self._rows = np.flatnonzero(evaluation.clips.has_audio)
        self._hash, self._first, self._of = np.unique(
            evaluation.clips.audio_hash[self._rows], return_index=True, return_inverse=True
        )

    def match(self, block: Columns) -> Matches:
        """Clips of ``block`` with the samples of evaluation clips, each with the first of these; all count as seen."""
        position = np.flatnonzero(block.has_audio & np.isin(block.audio_hash, self._hash))
        at = np.searchsorted(self._hash, block.audio_hash[position])
        hit = np.zeros(len(self._hash), bool)
        hit[at] = True
        self.seen[self._rows] |= hit[self._of]
        return Matches(position, self._rows[self._first[at]])


class ByLandmarks:
    """A sound that shares a stretch: another version, a part, at another speed, or cut from the same material."""

    def __init__(self, evaluation: Evaluation):
        self.seen = np.zeros(len(evaluation.clips), bool)
        self._landmarks = Landmarks(evaluation.clips.fingerprint.values, evaluation.clips.fingerprint.bounds)
        self._stretched = Stretched(evaluation.clips.elastic.values, evaluation.clips.elastic.bounds)

    def match(self, block: Columns) -> Matches:
        """Clips of ``block`` that share landmarks with an evaluation clip, each with the one it shares the most with.

        Every evaluation clip that is found counts as seen, not only the best.
        """
        plain = self._landmarks.match(block.fingerprint.values, block.fingerprint.bounds)
        bent = self._stretched.match(block.elastic.values, block.elastic.bounds)
        query, indexed, votes = (
            np.concatenate([getattr(plain, name), getattr(bent, name)]) for name in ("query", "indexed", "votes")
        )
        self.seen[indexed] = True
        best = np.lexsort((-votes, query))
        position, first = np.unique(query[best], return_index=True)
        return Matches(position, indexed[best[first]])


class ByCaption:
    """The same normalised captions, if specific, which is known only once all training clips were counted."""

    def __init__(self, evaluation: Evaluation):
        self.seen = np.zeros(len(evaluation.clips), bool)
        self._captions = evaluation.captions
        self._hash, key = np.unique(evaluation.clips.caption.values, return_inverse=True)
        self._pairs = np.unique(key * len(self.seen) + evaluation.clips.caption.owner)  # by caption, each clip once
        self._clip = self._pairs % len(self.seen)
        self._first = np.searchsorted(self._pairs // len(self.seen), np.arange(len(self._hash) + 1))
        self._several = np.bincount(self._clip, minlength=len(self.seen))

    def match(self, block: Columns) -> tuple[Matches, np.ndarray]:
        """Every clip with a caption of the evaluation side, once per such caption; and how many captions the clip has.

        ``eval_clip`` numbers captions, not clips.
        """
        owner, values = block.caption.owner, block.caption.values
        known = np.isin(values, self._hash)
        relevant = np.isin(owner, owner[known])  # all captions of clips with a known one
        owner, values, known = owner[relevant], values[relevant], known[relevant]
        order = np.lexsort((values, owner))
        owner, values, known = owner[order], values[order], known[order]
        fresh = np.append(True, (owner[1:] != owner[:-1]) | (values[1:] != values[:-1]))[: len(owner)]
        several = np.bincount(owner[fresh], minlength=len(block))
        at = np.flatnonzero(fresh & known)
        return Matches(owner[at], np.searchsorted(self._hash, values[at])), several[owner[at]]

    def finish(self, matches: pa.Table) -> tuple[pa.Table, int]:
        """Keeps the matches that count.

        Args:
          matches: ``row``, ``eval_clip`` and ``several``, as ``match`` gave them.

        Returns:
          each ``row`` that counts once, with an evaluation clip as ``eval_clip``; and the number of clips that do not.
        """
        row, key, several = (matches[name].to_numpy() for name in ("row", "eval_clip", "several"))
        trained, tested = np.bincount(key, minlength=len(self._hash)), np.diff(self._first)
        specific = (trained > 0) & (trained <= SPECIFIC_CLIPS) & (tested <= SPECIFIC_CLIPS)
        for number in np.flatnonzero(specific):
            texts = (normalise(text) for text in self._captions(int(self._clip[self._first[number]])))
            words = next((len(text.split()) for text in texts if hash64(0, text) == int(self._hash[number])), 0)
            specific[number] = words >= SPECIFIC_WORDS
        # one entry for each pair of a match and an evaluation clip with its caption; the second line counts up inside a
        # caption's run of evaluation clips
        position = np.repeat(np.arange(len(key)), np.where(specific[key], tested[key], 0))
        clip = self._clip[self._first[key[position]] + np.arange(len(position)) - np.searchsorted(position, position)]
        _, first, shared = np.unique(row[position] * len(self.seen) + clip, return_index=True, return_counts=True)
        fewest = np.minimum(several[position[first]], self._several[clip[first]])
        enough = (shared >= SEVERAL) | (self._shared(row, key, row[position[first]], clip[first]) >= fewest)
        position, clip = position[first[enough]], clip[first[enough]]
        self.seen[clip] = True
        _, once = np.unique(row[position], return_index=True)
        table = matches.take(pa.array(position[once])).drop_columns("several")
        table = table.set_column(table.schema.get_field_index("eval_clip"), "eval_clip", pa.array(clip[once]))
        return table, len(np.unique(row)) - len(once)

    def _shared(self, row: np.ndarray, key: np.ndarray, rows: np.ndarray, clips: np.ndarray) -> np.ndarray:
        """How many captions, specific or not, each of ``rows`` shares with the clip beside it in ``clips``."""
        order = np.argsort(row, kind="stable")
        begin, end = (np.searchsorted(row[order], rows, side=side) for side in ("left", "right"))
        which = np.repeat(np.arange(len(rows)), end - begin)
        own = key[order[np.arange(len(which)) - np.searchsorted(which, which) + begin[which]]]
        return np.bincount(which[np.isin(own * len(self.seen) + clips[which], self._pairs)], minlength=len(rows))
