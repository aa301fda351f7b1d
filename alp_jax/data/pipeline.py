"""Batches for training and evaluation.

``train_batches`` yields this host's rows of the global batches ``start_step``, ``start_step + 1``, ... The content of a
global batch follows from the plan's fingerprint and the step alone (``order.py``); hosts, workers and threads only
decide who reads it. So resuming is starting at a step.
"""

import dataclasses
import functools
import os
import sys
from collections.abc import Iterator

import grain
import numpy as np
from absl import flags

from alp_jax.config.schema import DataConfig
from alp_jax.core import files
from alp_jax.core.cores import usable_cores
from alp_jax.core.errors import UserError
from alp_jax.core.hashing import fingerprint, hash64
from alp_jax.core.names import choose
from alp_jax.data import order
from alp_jax.data.buckets import BLOCK, Bucket, assign, edges, make_buckets
from alp_jax.data.building.worker import die_with_parent
from alp_jax.data.dataset import Dataset
from alp_jax.data.example import SAMPLE_RATE
from alp_jax.data.text.caption_ids import caption_ids
from alp_jax.data.text.normalise import CLEAN_UPS, normalise
from alp_jax.data.text.tokenizer import Tokenizer, tokenizer_path

_AHEAD = 3  # batches read ahead per process; a batch is up to tens of megabytes


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """How a rung becomes batches.

    Attributes:
      fingerprint: changes when anything changes that the content of a batch depends on; hosts and workers do not.
      buckets: the shapes in use, see ``Bucket``.
      pairs, clips, hours: of the rung.
      padding: share of samples in the batches that is padding.
      cropped: share of the rung's audio that one pass does not see because clips are longer than the last bucket.
      batches_per_epoch: steps after which as many clips were taken as there are.
    """

    fingerprint: str
    buckets: tuple[Bucket, ...]
    pairs: int
    clips: int
    hours: float
    padding: float
    cropped: float
    batches_per_epoch: float


def _rung(dataset: Dataset, config: DataConfig) -> tuple[np.ndarray, list[Bucket], list[np.ndarray]]:
    rows = dataset.ladder_rows(config.pairs)
    if not len(rows):
        raise UserError(f"data set {dataset.path} has no training clips with captions")
    buckets, members = make_buckets(dataset.num_samples[rows], config)
    return rows, buckets, [rows[member] for member in members]


def plan(dataset: Dataset, config: DataConfig, *, seed: int, devices: int = 1) -> BatchPlan:
    """Describes the batches of a run before it starts.

    Raises:
      UserError: naming the knob, also when ``devices`` could not share every batch evenly.
    """
    if config.text_budget < 1:
        raise UserError(f"data.text_budget = {config.text_budget} leaves no token of a caption")
    rows, buckets, _ = _rung(dataset, config)
    for bucket in buckets:
        if bucket.batch % devices:
            raise UserError(
                f"batches of {bucket.batch} clips do not divide over {devices} devices: "
                f"set data.clips_multiple = {config.clips_multiple} to a multiple of {devices}"
            )
    samples = dataset.num_samples[rows].astype(np.int64)
    edges_K = edges(config.bucket_seconds)
    kept = np.minimum(samples, edges_K[-1])
    vocabulary = tokenizer_path(dataset.path, config)
    identity = {
        "order": order.VERSION,
        "block": BLOCK,
        "data": dataset.fingerprint,
        "seed": seed,
        "pairs": config.pairs,
        "buckets": [dataclasses.asdict(bucket) for bucket in buckets],
        "text_clean": choose(config.text_clean, CLEAN_UPS, "config.data.text_clean"),
        "text_budget": config.text_budget,
        "tokenizer": files.sha256(vocabulary) if vocabulary.exists() else "",
    }
    steps = np.array([b.per_block for b in buckets], float)
    per_step = (steps / BLOCK * [b.batch for b in buckets]).sum()
    return BatchPlan(
        fingerprint=fingerprint(identity),
        buckets=tuple(buckets),
        pairs=int(dataset.num_captions[rows].sum()),
        clips=len(rows),
        hours=float(samples.sum() / SAMPLE_RATE / 3600),
        padding=float(1 - kept.sum() / edges_K[assign(samples, edges_K)].sum()),
        cropped=float(1 - kept.sum() / samples.sum()),
        batches_per_epoch=float(len(rows) / per_step),
    )


def stable_id(text: str) -> int:
    """31-bit id of a text, the same on every host; equal texts are found by comparing ids."""
    return hash64(0, text) & 0x7FFFFFFF


class GlobalBatches(grain.sources.RandomAccessDataSource):
    """Element ``step`` is one host's rows of global batch ``step``, see ``train_batches``."""

    def __init__(self, dataset: Dataset, config: DataConfig, tokenizer: Tokenizer, seed: int, host: int, hosts: int):
        self._dataset, self._config, self._tokenizer = dataset, config, tokenizer
        self._seed, self._host, self._hosts = seed, host, hosts
        for bucket in self._shapes[0]:
            if bucket.batch % hosts:
                raise UserError(
                    f"batches of {bucket.batch} clips do not divide over {hosts} hosts: "
                    f"set data.clips_multiple = {config.clips_multiple} to a multiple of {hosts}"
                )

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name != "_shapes"}

    @functools.cached_property
    def _shapes(self) -> tuple[list[Bucket], list[np.ndarray]]:
        """Buckets and their rows; every process derives them from the index, nothing of that size is sent around."""
        _, buckets, rows = _rung(self._dataset, self._config)
        return buckets, rows

    def __len__(self) -> int:
        return sys.maxsize // 2

    def __repr__(self) -> str:
        return f"GlobalBatches({self._dataset!r}, host {self._host} of {self._hosts})"

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        buckets, rows = self._shapes
        what = order.compose(buckets, self._seed, int(step))
        bucket = buckets[what.bucket]
        share = bucket.batch // self._hosts
        batch = empty_batch(share, bucket.edge) | {
            "text": np.full((share, self._config.text_budget), self._tokenizer.pad_id, np.int32),
            "text_len": np.zeros(share, np.int32),
            "text_cut": np.zeros(share, bool),
            "recording": np.zeros(share, np.int32),
            "caption_group": np.zeros(share, np.int32),
            "source": np.zeros(share, np.int32),
        }
        for i in range(share):
            of_batch = self._host * share + i
            row = rows[what.bucket][what.member_B[of_batch]]
            self._fill(batch, i, int(row), what.crop_B[of_batch], what.caption_B[of_batch])
        return batch

    def _fill(self, batch: dict[str, np.ndarray], i: int, row: int, crop: float, choice: float) -> None:
        record = self._dataset.read(row)
        width = batch["audio"].shape[1]
        first = int(crop * (record.num_samples - width + 1)) if record.num_samples > width else 0
        put_audio(batch, i, row, record.audio[first : first + width])
        caption = record.captions[int(choice * len(record.captions))]
        ids, batch["text_cut"][i] = caption_ids(caption, self._tokenizer, self._config)
        batch["text"][i, : len(ids)] = ids
        batch["text_len"][i] = len(ids)
        batch["recording"][i] = stable_id(record.recording)
        batch["caption_group"][i] = stable_id(normalise(caption))
        batch["source"][i] = self._dataset.source[row]


def empty_batch(rows: int, width: int) -> dict[str, np.ndarray]:
    """Audio side of a batch in which every row is still padding."""
    return {
        "audio": np.zeros((rows, width), np.int16),
        "audio_len": np.zeros(rows, np.int32),
        "mask": np.zeros(rows, bool),
        "row": np.full(rows, -1, np.int64),
    }


def put_audio(batch: dict[str, np.ndarray], i: int, row: int, sound: np.ndarray) -> None:
    batch["audio"][i, : len(sound)] = sound
    batch["audio_len"][i] = len(sound)
    batch["mask"][i] = True
    batch["row"][i] = row


def _start_worker(parent: int, index: int, count: int) -> None:
    die_with_parent(parent)


def train_batches(
    dataset: Dataset,
    config: DataConfig,
    tokenizer: Tokenizer,
    *,
    seed: int,
    start_step: int = 0,
    host: int = 0,
    hosts: int = 1,
) -> grain.DatasetIterator:
    """Endless iterator over this host's rows of global batches, from ``start_step`` on; call ``close()`` at the end.

    Returns dicts of numpy arrays, B the host's rows, S the bucket's samples (the same on all hosts at one step):
    ``audio`` int16[B,S], ``audio_len`` int32[B], ``text`` int32[B,L] without special tokens and padded with
    ``pad_id``, ``text_len`` int32[B], ``text_cut`` bool[B] (the caption was longer than the budget), ``recording`` and
    ``caption_group`` int32[B] (equal ids: same recording, same normalised caption), ``mask`` bool[B] (False: padding
    row), ``source`` int32[B], ``row`` int64[B].

    Raises:
      UserError: naming the knob when the rung or the batch sizes cannot be had.
      DataError: while iterating, when a record is damaged.
    """
    source = GlobalBatches(dataset, config, tokenizer, seed, host, hosts)
    threads = 1 if config.workers else min(_AHEAD, len(usable_cores()))
    batches = grain.MapDataset.source(source)[start_step:]
    batches = batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=_AHEAD))
    if config.workers:
        if not flags.FLAGS.is_parsed():  # grain's workers read absl flags, which only absl's own main parses
            flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(num_workers=config.workers, per_worker_buffer_size=1)
        batches = batches.mp_prefetch(options, worker_init_fn=functools.partial(_start_worker, os.getpid()))
    return iter(batches)


def eval_batches(
    dataset: Dataset,
    rows: np.ndarray,
    *,
    bucket_seconds: tuple[float, ...],
    batch_seconds: float,
    max_seconds: float,
) -> Iterator[dict[str, np.ndarray]]:
    """Every row once, shortest bucket first, in one fixed shape per bucket; longer clips keep their first max_seconds.

    Yields dicts of ``audio`` int16[B,S], ``audio_len`` int32[B], ``row`` int64[B] (-1 in padding rows) and ``mask``
    bool[B], with B = max(1, batch_seconds // bucket).
    """
    if max_seconds <= 0 or batch_seconds <= 0:
        raise UserError("evaluation.max_seconds and evaluation.batch_seconds must be positive")
    edges_K = edges((*(seconds for seconds in bucket_seconds if seconds < max_seconds), max_seconds))
    bucket_N = assign(dataset.num_samples[rows], edges_K)
    for k, edge in enumerate(edges_K):
        here = np.asarray(rows)[bucket_N == k]
        size = max(1, int(batch_seconds * SAMPLE_RATE) // int(edge))
        for start in range(0, len(here), size):
            batch = empty_batch(size, int(edge))
            for i, row in enumerate(here[start : start + size]):
                put_audio(batch, i, int(row), dataset.read(int(row)).audio[:edge])
            yield batch
