"""How fast clips come: per stage on one core, and for the loader as training uses it."""

import contextlib
import functools
import os
import pathlib
import tempfile
import time
from collections.abc import Iterator

import numpy as np

from alp_jax.bench.torch_loader import time_torch_loader
from alp_jax.config.data_settings import data_settings
from alp_jax.config.schema import DataConfig
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.cores import processor_seconds, usable_cores
from alp_jax.core.errors import UserError
from alp_jax.core.processes import in_fresh_process
from alp_jax.data.order.batch_plan import plan
from alp_jax.data.order.subset import open_rung
from alp_jax.data.pipeline import GlobalBatches, train_batches
from alp_jax.data.store import records, writing
from alp_jax.data.store.dataset import Dataset, open_dataset
from alp_jax.data.store.records import Crop
from alp_jax.data.text.open import open_tokenizer, tokenizer_path
from alp_jax.data.text.tokenizer import Tokenizer

# look: what is in the batch; read: bytes of the frame; crc: both checksums; parse: the record without its sound;
# decode: the part of the sound that is kept, into its row; text: token ids; batch: the empty arrays
_ROUNDS = 3  # of a comparison, taken in turns
STAGES = ("look", "read", "crc", "parse", "decode", "text", "batch")


def measure_loader(
    path: str, settings: list[str], *, clips: int, step_seconds: float, batch: int = 0, against_torch: bool = False
) -> dict:
    """Stages of reading on one core, what a step needs of them, and the loader in a process of its own.

    Args:
      path: of the data set.
      settings: of ``config.data``, as KEY=VALUE.
      clips: to read for each figure.
      step_seconds, batch: duration and clips of the training step to feed; 0 clips: the mean of the batches.
      against_torch: also time a PyTorch DataLoader over the same FLAC files, in turns.

    Raises:
      UserError: an unknown or invalid setting or size, or a comparison over a data set that is not FLAC.
    """
    if batch < 0:
        raise UserError(f"--batch {batch}: must not be negative")
    dataset = open_dataset(path)
    config = data_settings(settings, DataConfig(path=path))
    if against_torch and dataset.codec != "flac":
        raise UserError(f"--against torch compares decoding of FLAC; {path} is stored as {dataset.codec}")
    tokenizer = open_tokenizer(tokenizer_path(dataset.path, config))
    result = {"path": path, "read": config.read} | stages(dataset, config, tokenizer, clips)
    batch = batch or clips_per_step(dataset, config)
    cores_needed = round(batch * result["ms"] / 1e3 / step_seconds, 2)
    result["cores"] = len(usable_cores())
    result["step"] = {"seconds": step_seconds, "clips": round(batch, 2), "cores_needed": cores_needed}
    ours = functools.partial(in_fresh_process, time_loader, dataset, config, tokenizer, clips)
    if not against_torch:
        return result | {"loader": ours()}
    with tempfile.TemporaryDirectory() as folder:
        files = write_flac(dataset, config, pathlib.Path(folder))
        theirs = functools.partial(in_fresh_process, _time_torch, files, tokenizer, round(batch), config, clips)
        turns = [(ours(), theirs()) for _ in range(_ROUNDS)]
    # The median round of each: turns are paired, so that a busy machine disturbs both alike.
    loader, torch = (
        sorted(runs, key=lambda run: run["clips_per_s"])[_ROUNDS // 2] for runs in zip(*turns, strict=True)
    )
    ratio = {
        "audio_s_per_s": round(loader["audio_s_per_s"] / torch["audio_s_per_s"], 3),
        "audio_s_per_processor_s": round(_per_processor(loader) / _per_processor(torch), 3),
    }
    return result | {"loader": loader, "torch": torch, "times_torch": ratio}


def _per_processor(run: dict) -> float:
    """Seconds of audio per second of processor time."""
    return run["audio_s_per_s"] / run["clips_per_s"] / run["processor_ms"]


def _time_torch(files, tokenizer: Tokenizer, batch: int, config: DataConfig, clips: int) -> dict:
    longest = round(SAMPLE_RATE * (config.bucket_seconds[-1] if config.bucket_seconds else config.crop_seconds))
    workers = config.workers or len(usable_cores())
    return time_torch_loader(files, tokenizer, batch=batch, workers=workers, max_samples=longest, clips=clips)


class _Clock:
    """Seconds of this thread's processor time by stage."""

    def __init__(self):
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.thread_time()
        yield
        self.seconds[stage] += time.thread_time() - start


def stages(dataset: Dataset, config: DataConfig, tokenizer: Tokenizer, clips: int, seed: int = 0) -> dict:
    """Processor time of every stage over at least ``clips`` clips of a run, one after another on one core.

    Returns:
      ``clips``; ``audio_seconds`` per clip as kept; ``stages``: by name ``ms`` per clip and ``clips_per_s_core``; and
      the same two numbers for all of them as ``ms`` and ``clips_per_s_core``.
    """
    source, clock, done, kept = GlobalBatches(dataset, config, tokenizer, seed, 0, 1), _Clock(), 0, 0
    for step in range(1, 10**9):
        if done >= clips:
            break
        with clock("look"):
            shape, rows, crops, choices = source.clips(step)
        with clock("batch"):
            batch = source.blank(len(rows), *shape)
        for i, row in enumerate(rows.tolist()):
            with clock("read"):
                frame = dataset.frame(row)
                block = records.fetch([frame])[0]
            with clock("crc"):
                data = records.unpack(block, frame)
            with clock("parse"):
                records.decode(data, "", audio=False)
            with clock("decode"):
                record = records.decode(data, "", Crop(crops[i], shape[0], batch["audio"][i]))
            kept += len(record.audio)
            with clock("text"):
                source.put_text(batch, i, record, choices[i])
        done += len(rows)
    clock.seconds["decode"] -= clock.seconds["parse"]  # which decoding repeats
    per_clip = {name: 1e3 * max(0.0, seconds) / done for name, seconds in clock.seconds.items()}
    return {
        "clips": done,
        "audio_seconds": kept / done / SAMPLE_RATE,
        "stages": {name: _rate(ms) for name, ms in per_clip.items()},
    } | _rate(sum(per_clip.values()))


def _rate(ms: float) -> dict[str, float | None]:
    return {"ms": round(ms, 4), "clips_per_s_core": round(1e3 / ms, 1) if ms else None}


def time_loader(dataset: Dataset, config: DataConfig, tokenizer: Tokenizer, clips: int, seed: int = 0) -> dict:
    """The loader as training uses it, over at least ``clips`` clips once its first batch is there.

    Returns:
      ``workers``, ``threads``, ``ahead_mb`` (memory for what is read ahead, at most), ``load`` (of the machine, a
      minute's mean), ``clips``, ``clips_per_s``, ``audio_s_per_s`` and, of this process and its workers together,
      ``processor_ms`` per clip (None on systems that do not report it).
    """
    batches = train_batches(dataset, config, tokenizer, seed=seed)
    try:
        next(batches)
        done = kept = 0
        start, before = time.perf_counter(), processor_seconds()
        while done < clips:
            batch = next(batches)
            done, kept = done + len(batch["row"]), kept + int(batch["audio_len"].sum())
        seconds, used = time.perf_counter() - start, processor_seconds() - before
    finally:
        batches.close()
    return {
        "workers": config.workers,
        "threads": batches.ahead.threads,
        "ahead_mb": round(batches.ahead.bytes / 1e6, 1),
        "load": round(os.getloadavg()[0], 1),
        "clips": done,
        "clips_per_s": round(done / seconds, 1),
        "audio_s_per_s": round(kept / SAMPLE_RATE / seconds, 1),
        "processor_ms": round(1e3 * used / done, 3),
    }


def clips_per_step(dataset: Dataset, config: DataConfig) -> float:
    """Clips in a global batch, on average over a block of steps."""
    buckets = plan(dataset, config, seed=0).buckets
    return sum(bucket.batch * bucket.per_block for bucket in buckets) / sum(bucket.per_block for bucket in buckets)


def write_flac(dataset: Dataset, config: DataConfig, folder: pathlib.Path) -> list[tuple[str, str]]:
    """Writes every clip of a rung as a FLAC file, as it is stored; returns (path, first caption) of each."""
    rung, written = open_rung(dataset, config), []
    rows = np.sort(np.concatenate([*rung.rows.values()]))
    for row, record in zip(rows.tolist(), dataset.read_many(rows), strict=True):
        path = folder / f"{row:08}.flac"
        path.write_bytes(writing.encode_audio(record.audio, "flac"))
        written.append((str(path), record.captions[0]))
    return written
