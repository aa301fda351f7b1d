"""Fixed batch shapes by duration: given by the user, or chosen for the least padding."""

import dataclasses

import numpy as np

from alp_jax.config.schema import DataConfig
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError

MAX_BUCKETS = 8  # every bucket is one more compiled program
_HOP = 160  # samples between feature frames, the resolution of lengths
_MAX_BINS = 1024
_MAX_CROP = 25  # percent


@dataclasses.dataclass(frozen=True)
class Bucket:
    """One batch shape.

    Attributes:
      edge: samples per row; clips up to this length land here, those longer than the last edge are cropped to it.
      batch: clips in a global batch.
      clips: clips of the rung in this bucket.
      per_block: steps that use this bucket in every block of ``compose.BLOCK`` steps, in the first stage of a mixture.
    """

    edge: int
    batch: int
    clips: int
    per_block: int


def edges(bucket_seconds: tuple[float, ...], knob: str = "data.bucket_seconds") -> np.ndarray:
    """Bucket lengths in samples, int64[K]; UserError unless 1 to 8 increasing positive numbers."""
    samples = np.array([round(seconds * SAMPLE_RATE) for seconds in bucket_seconds], np.int64)
    if not 1 <= len(samples) <= MAX_BUCKETS or samples[0] <= 0 or (np.diff(samples) <= 0).any():
        raise UserError(f"{knob} = {tuple(bucket_seconds)}: needs 1 to {MAX_BUCKETS} increasing positive lengths")
    return samples


def shortest(num_samples: np.ndarray, crop_percent: int) -> np.ndarray:
    """Samples left of clips if up to ``crop_percent`` of their length is cut off."""
    return -(-np.asarray(num_samples, np.int64) * (100 - crop_percent) // 100)


def assign(num_samples: np.ndarray, edges_K: np.ndarray, crop_percent: int = 0) -> np.ndarray:
    """Bucket of every clip, int64[N]: the first that holds all but ``crop_percent`` of it, else the last."""
    return np.minimum(np.searchsorted(edges_K, shortest(num_samples, crop_percent)), len(edges_K) - 1)


def batch_size(edge: int, config: DataConfig) -> int:
    """Clips in a global batch of rows of ``edge`` samples; a positive multiple of ``data.clips_multiple``."""
    multiple = config.clips_multiple
    if multiple < 1:
        raise UserError(f"data.clips_multiple = {multiple}: must be at least 1")
    if config.clips_per_batch < 0 or config.clips_per_batch % multiple:
        raise UserError(
            f"data.clips_per_batch = {config.clips_per_batch}: must be a multiple of data.clips_multiple = {multiple}"
        )
    if config.clips_per_batch:
        return config.clips_per_batch
    if config.batch_seconds <= 0:
        raise UserError(f"data.batch_seconds = {config.batch_seconds:g}: must be positive")
    return max(multiple, int(config.batch_seconds * SAMPLE_RATE) // edge // multiple * multiple)


class LengthHistogram:
    """A histogram of clip lengths up to ``longest`` samples, filled piece by piece, that chooses bucket edges."""

    def __init__(self, longest: int):
        self._longest = longest
        self._width = -(-longest // (_MAX_BINS * _HOP)) * _HOP
        bins = -(-longest // self._width)
        self._count, self._sum, self._max = (np.zeros(bins, np.int64) for _ in range(3))

    def add(self, num_samples: np.ndarray) -> None:
        """Counts clips; longer ones count as ``longest``."""
        samples = np.clip(num_samples, 1, self._longest).astype(np.int64)
        bin_N = (samples - 1) // self._width
        self._count += np.bincount(bin_N, minlength=len(self._count))
        np.add.at(self._sum, bin_N, samples)
        np.maximum.at(self._max, bin_N, samples)

    def choose(self, max_padding: float, most: int = MAX_BUCKETS) -> tuple[np.ndarray, int]:
        """At most ``most`` edges, int64[K], and the percentage of a clip that may be cropped to fit a shorter one.

        Nothing is cropped if the best edges leave at most ``max_padding`` of the batches empty without; else the least
        that gets there, up to ``_MAX_CROP`` percent.
        """
        used = np.flatnonzero(self._count)
        count, total, longest = self._count[used], self._sum[used], self._max[used]
        for crop_percent in range(_MAX_CROP + 1):
            edges_K = _least_padding(count, shortest(longest, crop_percent), most)
            edge = edges_K[assign(longest, edges_K, crop_percent)]
            kept = np.where(longest <= edge, total, count * edge).sum()
            if kept >= (1 - max_padding) * (count * edge).sum():
                break
        return edges_K, crop_percent


def _least_padding(count: np.ndarray, edge: np.ndarray, most: int) -> np.ndarray:
    """At most ``most`` of the increasing lengths ``edge``, of ``count`` clips each, that need the least padding.

    Dynamic programming finds the smallest padded total of the first clips, with one more edge at a time. It uses whole
    numbers throughout, so every machine finds the same edges.
    """
    bins, upto = len(count), np.append(0, np.cumsum(count))
    cost = np.append(0, upto[1:] * edge)  # with one edge
    choices = [np.zeros(bins, np.int64)]
    for _ in range(min(most, bins) - 1):
        ways = [cost[:j] + (upto[j] - upto[:j]) * edge[j - 1] for j in range(1, bins + 1)]
        choices.append(np.array([np.argmin(way) for way in ways]))
        cost = np.append(0, [way[i] for way, i in zip(ways, choices[-1], strict=True)])
    chosen, j = [], bins
    while j:
        chosen.append(edge[j - 1])
        j = int(choices.pop()[j - 1])
    return np.unique(chosen)
