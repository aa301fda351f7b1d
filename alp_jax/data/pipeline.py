"""Batches for training.

``train_batches`` yields this host's rows of the global batches ``start_step``, ``start_step + 1``, ... The content of a
global batch follows from the plan's fingerprint and the step alone (``order/compose.py``); hosts, workers and threads
only decide who reads it. So to resume is to start at a step.

Threads or processes share the examples of a batch: each reads a few neighbouring rows at a time and puts them in their
places, in the order in which they are needed. grain hands out that work; a thread here gathers what is complete.
"""

import atexit
import contextlib
import functools
import os
import queue
import sys
import threading
from collections.abc import Iterator

import grain
import numpy as np
from absl import flags

from alp_jax.config.schema import DataConfig
from alp_jax.core import storage
from alp_jax.core.errors import DataError, UserError
from alp_jax.core.hashing import hash64
from alp_jax.core.processes import die_with_parent, quiet_tracker
from alp_jax.data.order import compose
from alp_jax.data.order.batch_plan import check_share, make_recipe
from alp_jax.data.order.subset import Rung, open_rung
from alp_jax.data.read_ahead import QUEUED, ReadAhead, read_ahead
from alp_jax.data.shared_batches import SharedBatches
from alp_jax.data.store.dataset import Dataset
from alp_jax.data.store.records import Crop, Record
from alp_jax.data.store.shard_cache import ShardCache
from alp_jax.data.text.normalise import caption_ids, normalise
from alp_jax.data.text.tags import TagList
from alp_jax.data.text.tokenizer import Tokenizer

_CLOSE_S = 30.0  # to wait for a part that is being read
_LOOKED_UP = 4  # batches whose clips are kept in mind

_Batch = dict[str, np.ndarray]
_Clips = tuple[tuple[int, int], np.ndarray, np.ndarray, np.ndarray]


def stable_id(text: str) -> int:
    """31-bit id of a text, the same on every host; equal texts are found by comparing ids."""
    return hash64(0, text) & 0x7FFFFFFF


class GlobalBatches:
    """One host's rows of global batches, by step; see ``train_batches``. Threads may share it."""

    def __init__(self, dataset: Dataset, config: DataConfig, tokenizer: Tokenizer, seed: int, host: int, hosts: int):
        self._dataset, self._config, self._tokenizer = dataset, config, tokenizer
        self._seed, self._host, self._hosts = seed, host, hosts
        check_share(self._parts[1], config, hosts, "hosts")
        self._shards = _shard_cache(dataset, config) if config.read == "sequential" else None
        self._tags = TagList.load(config.tags) if config.tags else None
        self._lock, self._found = threading.Lock(), dict[int, _Clips]()

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name not in ("_parts", "_lock", "_found")}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state, _lock=threading.Lock(), _found={})

    @functools.cached_property
    def _parts(self) -> tuple[Rung, compose.Recipe]:
        """Derived from the index in every process, rather than sent to it: they may be large."""
        rung = open_rung(self._dataset, self._config)
        return rung, make_recipe(rung, self._dataset, self._config)

    def __repr__(self) -> str:
        return f"GlobalBatches({self._dataset!r}, host {self._host} of {self._hosts})"

    @property
    def most_rows(self) -> int:
        """Rows of this host's part of the batch that has the most."""
        return max(self._parts[1].batch_K) // self._hosts

    @property
    def batch_bytes(self) -> int:
        """Bytes of this host's part of the largest batch."""
        rung, recipe = self._parts
        more = 64 + (len(self._tags) if self._tags else 0)
        sizes = zip(recipe.batch_K, rung.summary.edges, rung.summary.tokens, strict=True)
        return max(batch // self._hosts * (2 * edge + 4 * width + more) for batch, edge, width in sizes)

    def shape(self, step: int) -> tuple[int, int, int]:
        """Rows of this host's part of global batch ``step``, and the samples and tokens that a row has room for."""
        rung, recipe = self._parts
        bucket, _ = compose.schedule(recipe, self._seed, step)
        return recipe.batch_K[bucket] // self._hosts, rung.summary.edges[bucket], rung.summary.tokens[bucket]

    def clips(self, step: int) -> _Clips:
        """(samples, tokens) of a row of global batch ``step``; of this host's clips the index rows, crops, captions."""
        # A step is composed once, by whichever thread comes first; the others wait for it.
        with self._lock:
            if step not in self._found:
                self._found[step] = self._look_up(step)
                for old in list(self._found)[:-_LOOKED_UP]:
                    del self._found[old]
            return self._found[step]

    def _look_up(self, step: int) -> _Clips:
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

    def __getitem__(self, step: int) -> _Batch:
        batch = self.blank(*self.shape(step))
        self.fill(batch, step, 0)
        return batch

    def blank(self, rows: int, samples: int, tokens: int) -> _Batch:
        """A batch of that shape in which every row is still padding."""
        tags = {"tags": np.zeros((rows, len(self._tags)), bool)} if self._tags else {}
        return (
            empty_batch(rows, samples)
            | tags
            | {
                "text": np.full((rows, tokens), self._tokenizer.pad_id, np.int32),
                "text_len": np.zeros(rows, np.int32),
                "text_cut": np.zeros(rows, bool),
                "recording": np.zeros(rows, np.int32),
                "caption_group": np.zeros(rows, np.int32),
                "source": np.zeros(rows, np.int32),
            }
        )

    def fill(self, batch: _Batch, step: int, first: int) -> None:
        """Reads the clips of the rows from ``first`` on into a blank batch that has as many rows as shall be read."""
        own = slice(first, first + len(batch["row"]))
        row, crop, caption = (column[own] for column in self.clips(step)[1:])
        batch["source"][:] = self._dataset.values("source", row)
        crops = [Crop(at, len(into), into) for at, into in zip(crop, batch["audio"], strict=True)]
        for i, record in enumerate(self._dataset.read_many(row, shards=self._shards, audio=crops)):
            batch["audio_len"][i] = min(record.num_samples, crops[i].width)
            batch["mask"][i] = True
            batch["row"][i] = row[i]
            self.put_text(batch, i, record, caption[i])
            if self._tags:
                batch["tags"][i] = self._tags.mask(record)

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
    """Fills row ``i`` of ``batch`` with ``sound``, int16[S], S at most its width, of row ``row`` of the data set."""
    batch["audio"][i, : len(sound)] = sound
    batch["audio_len"][i] = len(sound)
    batch["mask"][i] = True
    batch["row"][i] = row


class _OwnBatches:
    """Batches that threads of this process fill together."""

    def __init__(self, batches: GlobalBatches):
        self._batches, self._open, self._lock = batches, dict[int, _Batch](), threading.Lock()

    @contextlib.contextmanager
    def rows(self, step: int, first: int, last: int) -> Iterator[_Batch]:
        with self._lock:
            if step not in self._open:
                self._open[step] = self._batches.blank(*self._batches.shape(step))
            batch = self._open[step]
        yield {name: array[first:last] for name, array in batch.items()}

    def finished(self, step: int) -> _Batch:
        with self._lock:
            return self._open.pop(step)

    def close(self) -> None:
        self._open.clear()


class _Parts(grain.sources.RandomAccessDataSource):
    """Element ``step * parts + part`` is that part of a batch: reading it fills its rows; it gives their number."""

    def __init__(self, batches: GlobalBatches, memory: _OwnBatches | SharedBatches, parts: int):
        self._batches, self._memory, self._parts = batches, memory, parts

    def __len__(self) -> int:
        return sys.maxsize // 2

    def __getitem__(self, index: int) -> int:
        step, part = divmod(int(index), self._parts)
        rows = self._batches.shape(step)[0]
        first, last = part * rows // self._parts, (part + 1) * rows // self._parts
        if first < last:
            with self._memory.rows(step, first, last) as batch:
                self._batches.fill(batch, step, first)
        return last - first


class TrainBatches(Iterator[_Batch]):
    """What ``train_batches`` returns. Batches are gathered in the background until ``close()``.

    Attributes:
      ahead: how far.
    """

    def __init__(self, parts: grain.DatasetIterator, memory: _OwnBatches | SharedBatches, step: int, ahead: ReadAhead):
        self.ahead = ahead
        self._parts, self._memory = parts, memory
        self._ready = queue.SimpleQueue[_Batch | Exception]()
        self._room, self._closed = threading.Semaphore(ahead.batches), threading.Event()
        self._thread = threading.Thread(target=self._gather, args=(step,), daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def _gather(self, step: int) -> None:
        try:
            while self._room.acquire():
                for _ in range(self.ahead.parts):
                    if self._closed.is_set():
                        return
                    next(self._parts)
                self._ready.put(self._memory.finished(step))
                step += 1
        except Exception as error:  # the caller of next() sees it, once it has the batches before
            self._ready.put(error)

    def __next__(self) -> _Batch:
        if self._closed.is_set():
            raise StopIteration
        batch = self._ready.get()
        if isinstance(batch, Exception):
            self._ready.put(batch)  # for whoever asks again
            raise batch
        self._room.release()
        return batch

    def close(self) -> None:
        """Ends reading, and the processes that do it; the end of the program does so, too."""
        atexit.unregister(self.close)
        if self._closed.is_set():
            return
        self._closed.set()
        self._room.release()
        self._thread.join(_CLOSE_S)
        self._parts.close()
        self._memory.close()
        # grain closes once more when it is collected, and ends in a traceback if modules have gone by then
        del self._parts


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
) -> TrainBatches:
    """Endless iterator over this host's rows of global batches, from ``start_step`` on; call ``close()`` at the end.

    Returns dicts of numpy arrays, B the host's rows, S the bucket's samples (the same on all hosts at one step):
    ``audio`` int16[B,S], ``audio_len`` int32[B], ``text`` int32[B,L] without special tokens and padded with
    ``pad_id``, L the bucket's tokens, ``text_len`` int32[B], ``text_cut`` bool[B] (the caption was longer than the
    budget), ``recording`` and ``caption_group`` int32[B] (equal ids: same recording, same normalised caption),
    ``mask`` bool[B] (False: padding row), ``source`` int32[B], ``row`` int64[B], and, with ``config.tags``, ``tags``
    bool[B,V].

    Raises:
      UserError: names the setting if the rung or the batch sizes are impossible.
      DataError: while iterating, if a record is damaged.
    """
    batches = GlobalBatches(dataset, config, tokenizer, seed, host, hosts)
    ahead = read_ahead(config, batches.batch_bytes, batches.most_rows)
    slots = 2 + ahead.begun // ahead.parts
    memory = SharedBatches(batches, start_step, slots) if config.workers else _OwnBatches(batches)
    parts = grain.MapDataset.source(_Parts(batches, memory, ahead.parts))[start_step * ahead.parts :]
    reading = grain.ReadOptions(num_threads=ahead.threads, prefetch_buffer_size=2 * ahead.threads)
    read = parts.to_iter_dataset(reading)
    if config.workers:
        if not flags.FLAGS.is_parsed():  # grain's workers read absl flags, which only absl's own main parses
            flags.FLAGS.mark_as_parsed()
        quiet_tracker()
        options = grain.MultiprocessingOptions(num_workers=config.workers, per_worker_buffer_size=QUEUED)
        read = read.mp_prefetch(options, worker_init_fn=functools.partial(_start_worker, os.getpid()))
    return TrainBatches(iter(read), memory, start_step, ahead)
