"""Batches for evaluation: every clip once, by bucket of length. Threads read the parts of a batch, and the next one."""

import collections
import itertools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.cores import usable_cores
from alp_jax.core.errors import UserError
from alp_jax.data.order.buckets import edges
from alp_jax.data.order.shapes import LengthHistogram, shapes_of
from alp_jax.data.pipeline import empty_batch, put_audio
from alp_jax.data.read_ahead import THREADS
from alp_jax.data.store.dataset import Dataset
from alp_jax.data.store.records import Crop

_AHEAD = 2  # batches that are read besides the one that was handed out
_PARTS = 4  # of a batch for every thread, so that none waits long for another

_Batch = dict[str, np.ndarray]


def eval_batches(
    dataset: Dataset,
    rows: np.ndarray,
    *,
    bucket_seconds: tuple[float, ...],
    batch_seconds: float,
    max_seconds: float,
) -> Iterator[_Batch]:
    """Every row once, shortest bucket first, in one fixed shape per bucket; clips are cut to ``max_seconds``.

    If ``bucket_seconds`` is empty, buckets are chosen for the least padding.

    Yields dicts of ``audio`` int16[B,S], ``audio_len`` int32[B], ``row`` int64[B] (-1 in padding rows) and ``mask``
    bool[B], with B = max(1, batch_seconds // bucket).

    Raises:
      UserError: a limit that is not positive, or impossible buckets.
      DataError: while iterating, where the batch of a damaged record is due.
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
    threads = min(THREADS, len(usable_cores()))
    pool = ThreadPoolExecutor(threads, "eval batches")
    reading = collections.deque[tuple[_Batch, list[Future]]]()
    try:
        for edge, chosen, size in _planned(np.asarray(rows), bucket_N, shapes.edges, batch_seconds):
            batch = empty_batch(size, edge)
            ends = np.unique(np.linspace(0, len(chosen), _PARTS * threads + 1).astype(int)).tolist()
            parts = itertools.pairwise(ends)
            reading.append((batch, [pool.submit(_fill, batch, dataset, chosen, *part) for part in parts]))
            if len(reading) > _AHEAD:
                yield _complete(*reading.popleft())
        while reading:
            yield _complete(*reading.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _planned(
    rows: np.ndarray, bucket_N: np.ndarray, edges: tuple[int, ...], batch_seconds: float
) -> Iterator[tuple[int, np.ndarray, int]]:
    """Of every batch the samples of a row, the clips, and how many there are room for."""
    for k, edge in enumerate(edges):
        of_bucket = rows[bucket_N == k]
        size = max(1, int(batch_seconds * SAMPLE_RATE) // edge)
        for start in range(0, len(of_bucket), size):
            yield edge, of_bucket[start : start + size], size


def _fill(batch: _Batch, dataset: Dataset, chosen: np.ndarray, first: int, last: int) -> None:
    rows, width = chosen[first:last], batch["audio"].shape[1]
    for i, record in enumerate(dataset.read_many(rows, audio=[Crop(0.0, width)] * len(rows)), first):
        put_audio(batch, i, int(chosen[i]), record.audio)


def _complete(batch: _Batch, parts: list[Future]) -> _Batch:
    for part in parts:
        part.result()
    return batch
