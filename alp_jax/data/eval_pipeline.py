"""Batches for evaluation: every clip once, by bucket of length."""

from collections.abc import Iterator

import numpy as np

from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError
from alp_jax.data.order.buckets import edges
from alp_jax.data.order.shapes import LengthHistogram, shapes_of
from alp_jax.data.pipeline import empty_batch, put_audio
from alp_jax.data.store.dataset import Dataset
from alp_jax.data.store.records import Crop


def eval_batches(
    dataset: Dataset,
    rows: np.ndarray,
    *,
    bucket_seconds: tuple[float, ...],
    batch_seconds: float,
    max_seconds: float,
) -> Iterator[dict[str, np.ndarray]]:
    """Every row once, shortest bucket first, in one fixed shape per bucket; clips are cut to ``max_seconds``.

    If ``bucket_seconds`` is empty, buckets are chosen for the least padding.

    Yields dicts of ``audio`` int16[B,S], ``audio_len`` int32[B], ``row`` int64[B] (-1 in padding rows) and ``mask``
    bool[B], with B = max(1, batch_seconds // bucket).
    """
    if max_seconds <= 0 or batch_seconds <= 0:
        raise UserError("evaluation.max_seconds and evaluation.batch_seconds must be positive")
    no_text = np.zeros(len(rows), np.int64)
    if bucket_seconds or not len(rows):
        shapes = shapes_of(edges((*(seconds for seconds in bucket_seconds if seconds < max_seconds), max_seconds)), [0])
    else:
        lengths = LengthHistogram.upto(round(max_seconds * SAMPLE_RATE), np.zeros(1))
        lengths.add(dataset.num_samples[rows], no_text)
        shapes = lengths.choose(max_padding=1.0)
    bucket_N = shapes.assign(dataset.num_samples[rows], no_text)
    for k, edge in enumerate(shapes.edges):
        of_bucket = np.asarray(rows)[bucket_N == k]
        size = max(1, int(batch_seconds * SAMPLE_RATE) // edge)
        for start in range(0, len(of_bucket), size):
            batch = empty_batch(size, edge)
            chosen = of_bucket[start : start + size]
            for i, record in enumerate(dataset.read_many(chosen, audio=[Crop(0.0, edge)] * len(chosen))):
                put_audio(batch, i, int(chosen[i]), record.audio)
            yield batch
