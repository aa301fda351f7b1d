"""Batches for training.

``train_batches`` yields this host's rows of the global batches ``start_step``, ``start_step + 1``, ... The content of a
global batch follows from the plan's fingerprint and the step alone (``order/compose.py``); hosts, workers and threads
only decide who reads it. So to resume is to start at a step.
"""

import functools
import os
import sys

import grain
import numpy as np
from absl import flags

from alp_jax.config.schema import DataConfig
from alp_jax.core import storage
from alp_jax.core.cores import usable_cores
from alp_jax.core.errors import DataError, UserError
from alp_jax.core.hashing import hash64
from alp_jax.core.processes import die_with_parent, quiet_tracker
from alp_jax.data.order import compose
from alp_jax.data.order.batch_plan import check_share, make_recipe
from alp_jax.data.order.subset import Rung, open_rung
from alp_jax.data.store.dataset import Dataset
from alp_jax.data.store.records import Crop, Record
from alp_jax.data.store.shard_cache import ShardCache
from alp_jax.data.text.normalise import caption_ids, normalise
from alp_jax.data.text.tags import TagList
from alp_jax.data.text.tokenizer import Tokenizer

_AHEAD = 4  # batches ready ahead per process, if memory allows


def stable_id(text: str) -> int:
    """31-bit id of a text, the same on every host; equal texts are found by comparing ids."""
    return hash64(0, text) & 0x7FFFFFFF


class GlobalBatches(grain.sources.RandomAccessDataSource):
    """Element ``step`` is one host's rows of global batch ``step``, see ``train_batches``."""

    def __init__(self, dataset: Dataset, config: DataConfig, tokenizer: Tokenizer, seed: int, host: int, hosts: int):
        self._dataset, self._config, self._tokenizer = dataset, config, tokenizer
        self._seed, self._host, self._hosts = seed, host, hosts
        check_share(self._parts[1], config, hosts, "hosts")
        self._shards = _shard_cache(dataset, config) if config.read == "sequential" else None
        self._tags = TagList.load(config.tags) if config.tags else None

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "_parts"}

    @functools.cached_property
    def _parts(self) -> tuple[Rung, compose.Recipe]:
        """Derived from the index in every process, rather than sent to it: they may be large."""
        rung = open_rung(self._dataset, self._config)
        return rung, make_recipe(rung, self._dataset, self._config)

    def __len__(self) -> int:
        return sys.maxsize // 2

    def __repr__(self) -> str:
        return f"GlobalBatches({self._dataset!r}, host {self._host} of {self._hosts})"

    @property
    def batch_bytes(self) -> int:
        """Bytes of this host's part of the largest batch."""
        rung, recipe = self._parts
        row = [2 * edge + 4 * width + 64 for edge, width in zip(rung.summary.edges, rung.summary.tokens, strict=True)]
        return max(batch // self._hosts * size for batch, size in zip(recipe.batch_K, row, strict=True))

    def clips(self, step: int) -> tuple[tuple[int, int], np.ndarray, np.ndarray, np.ndarray]:
        """(samples, tokens) of a row of global batch ``step``; of this host's clips the index rows, crops, captions."""
        rung, recipe = self._parts
        content = compose.compose(recipe, self._seed, step)
        share = recipe.batch_K[content.bucket] // self._hosts
        own = slice(self._host * share, (self._host + 1) * share)
        row_B = np.empty(len(content.member_B), np.int64)
        for c in np.unique(content.component_B):
            of_component = content.component_B == c
            row_B[of_component] = rung.rows[content.bucket, int(c)][content.member_B[of_component]]
        if rung.table:
            rung.table.release()
        if recipe.windows:
            # Neighbours of a sorted batch lie in the same shard, so a host's stretch needs few of them. Crops and
            # captions were drawn by position and stay there: sorting them too would give another order.
            row_B.sort()
        if recipe.in_passes and recipe.windows is not None and self._shards is not None:
            windows = recipe.windows.around(content.bucket, self._seed, content.first)
            self._shards.ahead(tuple(shard for window in windows for shard in self._near(window)))
        shape = rung.summary.edges[content.bucket], rung.summary.tokens[content.bucket]
        return shape, row_B[own], content.crop_B[own], content.caption_B[own]

    def _near(self, window: list[int]) -> list[int]:
        """The shards of a window that this host's stretch of a sorted batch lies in, and one more on either side."""
        first = self._host * len(window) // self._hosts - 1
        last = -(-(self._host + 1) * len(window) // self._hosts) + 1
        return window[max(0, first) : last]

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        shape, row, crop, caption = self.clips(int(step))
        batch = self.blank(row, *shape)
        crops = [Crop(at, shape[0]) for at in crop]
        for i, record in enumerate(self._dataset.read_many(row, shards=self._shards, audio=crops)):
            assert record.audio is not None, "a crop was asked for"
            put_audio(batch, i, int(row[i]), record.audio)
            self.put_text(batch, i, record, caption[i])
            if self._tags:
                batch["tags"][i] = self._tags.mask(record)
        return batch

    def blank(self, row: np.ndarray, samples: int, tokens: int) -> dict[str, np.ndarray]:
        """A batch for the clips at ``row``, still without their sounds and captions."""
        tags = {"tags": np.zeros((len(row), len(self._tags)), bool)} if self._tags else {}
        return (
            empty_batch(len(row), samples)
            | tags
            | {
                "text": np.full((len(row), tokens), self._tokenizer.pad_id, np.int32),
                "text_len": np.zeros(len(row), np.int32),
                "text_cut": np.zeros(len(row), bool),
                "recording": np.zeros(len(row), np.int32),
                "caption_group": np.zeros(len(row), np.int32),
                "source": self._dataset.values("source", row).astype(np.int32),
            }
        )

    def put_text(self, batch: dict[str, np.ndarray], i: int, record: Record, choice: float) -> None:
        """Fills row ``i`` with one of the captions, picked by ``choice`` in [0, 1), and ids that tell duplicates."""
        caption = record.captions[int(choice * len(record.captions))]
        ids, batch["text_cut"][i] = caption_ids(caption, self._tokenizer, self._config)
        if len(ids) > batch["text"].shape[1]:
            raise DataError(
                f"clip {record.id} has a caption of {len(ids)} tokens in a batch for {batch['text'].shape[1]}: delete "
                f"the tokens-*.arrow of {self._dataset.path}, whose lengths are not of these captions"
            )
        batch["text"][i, : len(ids)] = ids
        batch["text_len"][i] = len(ids)
        batch["recording"][i] = stable_id(record.recording)
        batch["caption_group"][i] = stable_id(normalise(caption))


def _shard_cache(dataset: Dataset, config: DataConfig) -> ShardCache:
    limit = config.shard_cache_gb * 1e9
    window = config.window_shards * max(entry["bytes"] for entry in dataset.info["shards"])
    if storage.is_remote(dataset.path) and limit < 2 * window:
        raise UserError(
            f"data.shard_cache_gb = {config.shard_cache_gb:g} must hold two windows of data.window_shards = "
            f"{config.window_shards} shards, {2 * window / 1e9:.1f} GB"
        )
    return ShardCache(dataset.path, dataset.info["shards"], limit)


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
    ``pad_id``, L the bucket's tokens, ``text_len`` int32[B], ``text_cut`` bool[B] (the caption was longer than the
    budget), ``recording`` and
    ``caption_group`` int32[B] (equal ids: same recording, same normalised caption), ``mask`` bool[B] (False: padding
    row), ``source`` int32[B], ``row`` int64[B], and, with ``config.tags``, ``tags`` bool[B,V].

    Raises:
      UserError: names the setting if the rung or the batch sizes are impossible.
      DataError: while iterating, if a record is damaged.
    """
    source = GlobalBatches(dataset, config, tokenizer, seed, host, hosts)
    threads, ahead = _ahead(config, source.batch_bytes)
    batches = grain.MapDataset.source(source)[start_step:]
    if not config.workers:
        return iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)))
    if not flags.FLAGS.is_parsed():  # grain's workers read absl flags, which only absl's own main parses
        flags.FLAGS.mark_as_parsed()
    quiet_tracker()
    one_by_one = batches.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    options = grain.MultiprocessingOptions(num_workers=config.workers, per_worker_buffer_size=ahead)
    return iter(one_by_one.mp_prefetch(options, worker_init_fn=functools.partial(_start_worker, os.getpid())))


def _ahead(config: DataConfig, batch_bytes: int) -> tuple[int, int]:
    """Number of threads, and how far to read ahead (each worker of ``data.workers``), within ``data.prefetch_mb``."""
    room = config.prefetch_mb * 10**6 // batch_bytes
    # grain keeps `ahead` batches on both sides of a worker's queue, and holds three more: made, copied, handed over
    least = config.workers * 5 or 1
    if room < least:
        raise UserError(
            f"data.prefetch_mb = {config.prefetch_mb} has room for {room} batches of {batch_bytes / 1e6:.1f} MB; "
            f"{least} are needed with data.workers = {config.workers}"
        )
    if config.workers:
        return 0, min(_AHEAD, (room // config.workers - 3) // 2)
    ahead = min(_AHEAD, room)
    return min(ahead, len(usable_cores())), ahead
