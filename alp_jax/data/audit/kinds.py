"""The four ways in which a training clip can be an evaluation clip. Each holds the evaluation side and is given the
training side in blocks; what it costs per block depends on the block alone, but for near duplicates (``near.py``).
"""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alp_jax.core.hashing import hash64
from alp_jax.data.audit.columns import ALWAYS, Columns
from alp_jax.data.audit.near import Landmarks
from alp_jax.data.audit.sets import Held
from alp_jax.data.text.normalise import normalise

RECORDING, AUDIO, NEAR, CAPTION = KINDS = ("recording", "audio", "near", "caption")  # surest first
TOUCH_S = 0.05  # stretches of a recording may share so much without counting, for times are rounded
# A caption of fewer words, or of more clips on either side, says nothing about a clip. Nor does one of several, for
# people and templates repeat themselves: SEVERAL must be shared, or all that one of the two clips has.
SPECIFIC_WORDS, SPECIFIC_CLIPS, SEVERAL = 5, 3, 2


@dataclasses.dataclass(frozen=True)
class Found:
    """Training clips of a block, each at most once: places in the block (ascending), and an evaluation clip of each."""

    place: np.ndarray
    held: np.ndarray


class ByRecording:
    """The same stretch of the same recording; one whose times are not known overlaps every other."""

    def __init__(self, held: Held):
        clips = held.clips
        self.seen = np.zeros(len(clips), bool)
        coded = clips.recording.dictionary_encode()
        self._names, self._of = coded.dictionary, coded.indices.to_numpy().astype(np.int64)
        self._begin, self._end = (self._of * ALWAYS + t for t in (clips.begin_s, clips.end_s))
        self._by_begin = np.argsort(self._begin, kind="stable")

    def match(self, block: Columns) -> Found:
        number = pc.index_in(block.recording, value_set=self._names).fill_null(-1).to_numpy().astype(np.int64)
        place = np.flatnonzero(number >= 0)
        base = number[place] * ALWAYS
        begin, end = base + block.begin_s[place], base + np.maximum(block.end_s[place] - TOUCH_S, 0)
        some = _overlapping(begin, end, self._begin, self._end) > 0
        place, begin, end = place[some], begin[some], end[some]
        self.seen |= _overlapping(self._begin, self._end, begin, end) > 0
        # the last that begins before the end, or, where stretches differ in length, one before that
        at = np.searchsorted(self._begin[self._by_begin], end, side="left") - 1
        while len(early := np.flatnonzero(self._end[self._by_begin[at]] <= begin)):
            at[early] -= 1
        return Found(place, self._by_begin[at])


def _overlapping(begin: np.ndarray, end: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """How many of the stretches [begins, ends) overlap each of the stretches [begin, end)."""
    return np.searchsorted(np.sort(begins), end, side="left") - np.searchsorted(np.sort(ends), begin, side="right")


class ByAudio:
    """The same samples, all of them."""

    def __init__(self, held: Held):
        self.seen = np.zeros(len(held.clips), bool)
        self._rows = np.flatnonzero(held.clips.has_audio)
        self._hash, self._first, self._of = np.unique(
            held.clips.audio_hash[self._rows], return_index=True, return_inverse=True
        )

    def match(self, block: Columns) -> Found:
        place = np.flatnonzero(block.has_audio & np.isin(block.audio_hash, self._hash))
        at = np.searchsorted(self._hash, block.audio_hash[place])
        hit = np.zeros(len(self._hash), bool)
        hit[at] = True
        self.seen[self._rows] |= hit[self._of]
        return Found(place, self._rows[self._first[at]])


class ByLandmarks:
    """A sound that shares a stretch: a version, a part, or a clip cut from the same material."""

    def __init__(self, held: Held):
        self.seen = np.zeros(len(held.clips), bool)
        self._landmarks = Landmarks(held.clips.fingerprint.values, held.clips.fingerprint.bounds)

    def match(self, block: Columns) -> Found:
        pairs = self._landmarks.match(block.fingerprint.values, block.fingerprint.bounds)
        self.seen[pairs.held] = True
        best = np.lexsort((-pairs.votes, pairs.query))
        place, first = np.unique(pairs.query[best], return_index=True)
        return Found(place, pairs.held[best[first]])


class ByCaption:
    """The same normalised captions, if they are specific; how many training clips have one is known at the end."""

    def __init__(self, held: Held):
        self.seen = np.zeros(len(held.clips), bool)
        self._captions = held.captions
        self._hash, key = np.unique(held.clips.caption.values, return_inverse=True)
        self._pairs = np.unique(key * len(self.seen) + held.clips.caption.owner)  # by caption, each clip once
        self._clip = self._pairs % len(self.seen)
        self._first = np.searchsorted(self._pairs // len(self.seen), np.arange(len(self._hash) + 1))
        self._several = np.bincount(self._clip, minlength=len(self.seen))

    def match(self, block: Columns) -> tuple[Found, np.ndarray]:
        """Every clip with a caption of the evaluation side, once for each, and how many captions the clip has.

        ``held`` numbers captions, not clips.
        """
        owner, values = block.caption.owner, block.caption.values
        known = np.isin(values, self._hash)
        mine = np.isin(owner, owner[known])  # all captions of clips with a known one
        owner, values, known = owner[mine], values[mine], known[mine]
        order = np.lexsort((values, owner))
        owner, values, known = owner[order], values[order], known[order]
        fresh = np.append(True, (owner[1:] != owner[:-1]) | (values[1:] != values[:-1]))[: len(owner)]
        several = np.bincount(owner[fresh], minlength=len(block))
        at = np.flatnonzero(fresh & known)
        return Found(owner[at], np.searchsorted(self._hash, values[at])), several[owner[at]]

    def finish(self, found: pa.Table) -> tuple[pa.Table, int]:
        """Those of ``found`` (``row``, ``held`` and ``several`` as ``match`` gave them) that count, each row once, with
        an evaluation clip as ``held``; and how many training clips do not count."""
        row, key, several = (found[name].to_numpy() for name in ("row", "held", "several"))
        trained, tested = np.bincount(key, minlength=len(self._hash)), np.diff(self._first)
        specific = (trained > 0) & (trained <= SPECIFIC_CLIPS) & (tested <= SPECIFIC_CLIPS)
        for number in np.flatnonzero(specific):
            specific[number] = self._words(number) >= SPECIFIC_WORDS
        place = np.repeat(np.arange(len(key)), np.where(specific[key], tested[key], 0))
        clip = self._clip[self._first[key[place]] + np.arange(len(place)) - np.searchsorted(place, place)]
        _, first, shared = np.unique(row[place] * len(self.seen) + clip, return_index=True, return_counts=True)
        fewest = np.minimum(several[place[first]], self._several[clip[first]])
        enough = (shared >= SEVERAL) | (self._shared(row, key, row[place[first]], clip[first]) >= fewest)
        place, clip = place[first[enough]], clip[first[enough]]
        self.seen[clip] = True
        _, once = np.unique(row[place], return_index=True)
        table = found.take(pa.array(place[once])).drop_columns("several")
        table = table.set_column(table.schema.get_field_index("held"), "held", pa.array(clip[once]))
        return table, len(np.unique(row)) - len(once)

    def _shared(self, row: np.ndarray, key: np.ndarray, rows: np.ndarray, clips: np.ndarray) -> np.ndarray:
        """How many captions, specific or not, each of ``rows`` shares with the clip beside it in ``clips``."""
        order = np.argsort(row, kind="stable")
        begin, end = (np.searchsorted(row[order], rows, side=side) for side in ("left", "right"))
        which = np.repeat(np.arange(len(rows)), end - begin)
        own = key[order[np.arange(len(which)) - np.searchsorted(which, which) + begin[which]]]
        return np.bincount(which[np.isin(own * len(self.seen) + clips[which], self._pairs)], minlength=len(rows))

    def _words(self, key: int) -> int:
        texts = (normalise(text) for text in self._captions(int(self._clip[self._first[key]])))
        return next((len(text.split()) for text in texts if hash64(0, text) == int(self._hash[key])), 0)
