"""Mixtures of labelled sound events on backgrounds, with exact onsets, made from the clips of a data set.

Events and backgrounds of a mixture come from one split, which shares no group with another, so test mixtures hold no
event or background that was trained on. All draws are keyed by (seed, split, number) through Philox, a counter-based
generator: the same data set gives the same mixtures on any machine.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from alp_jax.core.clip import SAMPLE_RATE, Event
from alp_jax.core.hashing import fingerprint
from alp_jax.data.store.dataset import Dataset
from alp_jax.data.store.records import Crop, Record

SECONDS = 10.0
MAX_EVENTS = 4  # drawn for a mixture; at least one is
MIN_EVENT_S, MAX_EVENT_S = 0.25, 4.0
GAP_S = 0.1  # between two events of one class
SNR_DB = (6.0, 20.0)  # signal-to-noise ratio: level of an event above the background
BACKGROUND_RMS = 0.02
SILENCE_DB = -40.0  # relative to a clip's loudest 20 ms; quieter stretches at its ends do not belong to the event
_BLOCK = SAMPLE_RATE // 50
_SPLITS = {"train": 0, "test": 1}


@dataclasses.dataclass(frozen=True)
class Placed(Event):
    """An event of a mixture, with the row of its clip and its level above the background."""

    row: int
    snr_db: float


@dataclasses.dataclass(frozen=True)
class Plan:
    """One mixture: the row of its background clip, the first sample of it, and the events in order of onset."""

    background: int
    start: int
    events: tuple[Placed, ...]


class Mixtures:
    """Mixtures behind the part of the ``Dataset`` interface that feature extraction uses; row k is mixture k.

    Args:
      dataset: where the clips are.
      label_of: row -> class, for clips that hold one event.
      backgrounds: rows of clips of at least ``SECONDS`` without such an event.
      split: ``train`` or ``test``; ``label_of`` and ``backgrounds`` hold clips of this split alone.
      count: how many mixtures to make.

    Raises:
      ValueError: there is no event or no background.
    """

    def __init__(
        self, dataset: Dataset, label_of: dict[int, str], backgrounds: Sequence[int], split: str, count: int, seed: int
    ):
        if not label_of or not len(backgrounds):
            raise ValueError(f"mixtures of split {split} need labelled clips and backgrounds")
        self._dataset, self._seed, self._split = dataset, seed, split
        rows = np.array(sorted(label_of), np.int64)
        self._extent = dict(zip(rows.tolist(), self._extents(rows), strict=True))
        usable = [
            row for row in rows.tolist() if self._extent[row][1] - self._extent[row][0] >= MIN_EVENT_S * SAMPLE_RATE
        ]
        self._rows_of = {
            name: [row for row in usable if label_of[row] == name] for name in sorted({label_of[row] for row in usable})
        }
        self._backgrounds = sorted(backgrounds)
        self.plans = [self._plan(number) for number in range(count)]
        self.num_clips = count
        self.num_samples = np.full(count, round(SECONDS * SAMPLE_RATE), np.int32)
        self.fingerprint = fingerprint(
            {"data": dataset.fingerprint, "plans": [dataclasses.asdict(p) for p in self.plans]}
        )

    def read_many(self, rows: np.ndarray, audio: Sequence[Crop]) -> Iterator[Record]:
        """The mixtures of ``rows`` as records without captions; a crop's width counts from the start of the mixture."""
        for row, crop in zip(rows, audio, strict=True):
            plan = self.plans[int(row)]
            sound = self._mix(plan)
            yield Record(
                id=f"mixture:{self._split}:{int(row)}", source="mixture", recording="", audio=sound[: crop.width],
                num_samples=len(sound), captions=(), tags=(), labels={}, split=self._split, group="", license="",
                events=plan.events,
            )  # fmt: skip

    def _extents(self, rows: np.ndarray) -> Iterator[tuple[int, int]]:
        """First and last sample of the sound in each clip, at most MAX_EVENT_S apart."""
        width = round(4 * MAX_EVENT_S * SAMPLE_RATE)
        for record in self._dataset.read_many(rows, audio=[Crop(0.0, width)] * len(rows)):
            blocks = record.audio[: len(record.audio) // _BLOCK * _BLOCK].reshape(-1, _BLOCK).astype(np.float32)
            power = (blocks**2).mean(1)
            loud = np.flatnonzero(power > power.max(initial=0.0) * 10 ** (SILENCE_DB / 10))
            if not len(loud):
                yield 0, 0
                continue
            first = int(loud[0]) * _BLOCK
            yield first, min((int(loud[-1]) + 1) * _BLOCK, first + round(MAX_EVENT_S * SAMPLE_RATE))

    def _plan(self, number: int) -> Plan:
        rng = np.random.Generator(np.random.Philox(key=[self._seed, _SPLITS[self._split] << 32 | number]))
        background = self._backgrounds[rng.integers(len(self._backgrounds))]
        slack = int(self._dataset.num_samples[background]) - round(SECONDS * SAMPLE_RATE)
        start = int(rng.integers(slack + 1))
        events: list[Placed] = []
        for _ in range(int(rng.integers(1, MAX_EVENTS + 1))):
            names = list(self._rows_of)
            name = names[rng.integers(len(names))]  # classes are equally likely, however many clips they have
            row = self._rows_of[name][rng.integers(len(self._rows_of[name]))]
            first, last = self._extent[row]
            length = (last - first) / SAMPLE_RATE
            onset = round(float(rng.uniform(0, SECONDS - length)) * SAMPLE_RATE) / SAMPLE_RATE
            event = Placed(onset, onset + length, name, row, float(rng.uniform(*SNR_DB)))
            near = [
                other
                for other in events
                if other.label == name
                and other.onset_s < event.offset_s + GAP_S
                and event.onset_s < other.offset_s + GAP_S
            ]
            if not near:  # events of one class that touch would be one event
                events.append(event)
        return Plan(int(background), start, tuple(sorted(events, key=lambda event: event.onset_s)))

    def _mix(self, plan: Plan) -> np.ndarray:
        """int16[SECONDS * SAMPLE_RATE]; the whole mixture is made quieter if the sum would clip."""
        length = round(SECONDS * SAMPLE_RATE)
        rows = np.array([plan.background, *(event.row for event in plan.events)], np.int64)
        order = np.unique(rows)
        whole = [Crop(0.0, int(self._dataset.num_samples[row])) for row in order]
        records = self._dataset.read_many(order, audio=whole)
        sound_of = {int(row): record.audio for row, record in zip(order, records, strict=True)}
        mixed = _scaled(sound_of[plan.background][plan.start : plan.start + length], BACKGROUND_RMS)
        for event in plan.events:
            first, last = self._extent[event.row]
            at = round(event.onset_s * SAMPLE_RATE)
            mixed[at : at + last - first] += _scaled(
                sound_of[event.row][first:last], BACKGROUND_RMS * 10 ** (event.snr_db / 20)
            )
        peak = np.abs(mixed).max()
        return np.round(mixed * (32767 / max(peak, 1.0))).astype(np.int16)


def _scaled(sound: np.ndarray, rms: float) -> np.ndarray:
    """``sound`` as float32, scaled to a root mean square of ``rms`` (full scale is 1); silence stays silence."""
    sound = sound.astype(np.float32) / 32768
    level = float(np.sqrt((sound**2).mean()))
    return sound * (rms / level) if level > 0 else sound
