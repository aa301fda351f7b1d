"""What the settings say of batch shapes: lengths of rows, widths of the text, and clips in a batch."""

import dataclasses

import numpy as np

from alp_jax.config.schema import CHOSEN_WIDTHS, DataConfig
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError

MAX_BUCKETS = 8  # every bucket is one more compiled program


@dataclasses.dataclass(frozen=True)
class Bucket:
    """One batch shape.

    Attributes:
      edge: samples per row.
      tokens: width of the text, before special tokens.
      batch: clips in a global batch.
      clips: clips of the rung in this bucket.
      per_block: steps that use this bucket in every block of ``compose.BLOCK`` steps, in the first stage of a mixture.
    """

    edge: int
    tokens: int
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
    """Bucket of every clip, int64[N]: the first that holds it, else the last."""
    return np.minimum(np.searchsorted(edges_K, num_samples), len(edges_K) - 1)


def widths(config: DataConfig) -> np.ndarray:
    """Widths of the text that ``config.text_widths`` names, and ``text_budget``, int64[T]; that alone if it names none.

    Raises:
      UserError: ``text_budget`` leaves nothing, or the widths do not rise up to it.
    """
    budget, given = config.text_budget, () if config.text_widths == CHOSEN_WIDTHS else config.text_widths
    if budget < 1:
        raise UserError(f"data.text_budget = {budget} leaves no room for a caption")
    known = np.array([*(width for width in given if width != budget), budget], np.int64)
    if known[0] <= 0 or (np.diff(known) <= 0).any():
        raise UserError(f"data.text_widths = {given}: needs increasing numbers up to data.text_budget = {budget}")
    return known


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
