"""Fixed batch shapes by duration, how much padding they cost, and how often each is used."""

import dataclasses

import numpy as np

from alp_jax.config.schema import DataConfig
from alp_jax.core.errors import UserError
from alp_jax.data.example import SAMPLE_RATE

MAX_BUCKETS = 8  # every bucket is one more compiled program
BLOCK = 256  # steps in which every bucket appears an exact number of times


@dataclasses.dataclass(frozen=True)
class Bucket:
    """One batch shape.

    Attributes:
      edge: samples per row; clips up to this length land here, longer ones than the last edge are cropped to it.
      batch: clips in a global batch.
      clips: clips of the rung in this bucket.
      per_block: steps that use this bucket in every block of ``BLOCK`` steps.
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


def assign(num_samples: np.ndarray, edges_K: np.ndarray) -> np.ndarray:
    """Bucket of every clip, int64[N]: the first whose edge is not shorter, else the last."""
    return np.minimum(np.searchsorted(edges_K, num_samples), len(edges_K) - 1)


def batch_size(edge: int, config: DataConfig) -> int:
    """Clips in a global batch of rows of ``edge`` samples; a multiple of ``data.clips_multiple``, at least that."""
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


def per_block(share_K: np.ndarray, block: int) -> np.ndarray:
    """Splits ``block`` steps by the positive shares, each at least one, largest remainders first; int64[K]."""
    ideal = share_K / share_K.sum() * (block - len(share_K))
    counts = np.floor(ideal).astype(np.int64) + 1
    rest = block - counts.sum()
    counts[np.argsort(-(ideal % 1), kind="stable")[:rest]] += 1
    return counts


def make_buckets(num_samples: np.ndarray, config: DataConfig) -> tuple[list[Bucket], list[np.ndarray]]:
    """The buckets that have clips, and for each the positions of its clips in ``num_samples`` int32[N].

    Steps are given to buckets in proportion to the batches one epoch of their clips makes.
    """
    edges_K = edges(config.bucket_seconds)
    bucket_N = assign(num_samples, edges_K)
    members = [np.flatnonzero(bucket_N == k) for k in range(len(edges_K))]
    used = [k for k in range(len(edges_K)) if len(members[k])]
    sizes = [batch_size(int(edges_K[k]), config) for k in used]
    shares = np.array([len(members[k]) / size for k, size in zip(used, sizes, strict=True)])
    counts = per_block(shares, BLOCK)
    buckets = [
        Bucket(int(edges_K[k]), size, len(members[k]), int(count))
        for k, size, count in zip(used, sizes, counts, strict=True)
    ]
    return buckets, [members[k] for k in used]
