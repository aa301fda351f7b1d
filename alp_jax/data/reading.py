"""What it takes to read the clips of a data set, measured on a few of them, and the cores that accelerators need."""

import time
from collections.abc import Callable, Iterator

import numpy as np

from alp_jax.config.schema import DataConfig
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError
from alp_jax.data.read_ahead import THREADS, read_ahead
from alp_jax.data.store import records, writing
from alp_jax.data.store.dataset import Dataset
from alp_jax.data.store.records import Crop

_CLIPS, _ROUNDS = 32, 3
_LONGEST_S = 30.0  # longer clips are cropped, so no more of them is decoded
# Seconds of audio that one accelerator takes in a second: in the paper's runs, 600,000 steps of 5,120 s in 14 days on 8
# V100; and what its model is estimated to reach on an H100 with a large batch.
RATES = {"paper_v100": 317.0, "h100": 13_000.0}


def measure_reading(dataset: Dataset, clips: int = _CLIPS) -> dict:
    """Processor time of reading clips from all over the data set, as it is stored and in the other codec.

    Returns:
      ``codec`` as stored; ``clips``; ``audio_seconds`` decoded per clip; ``codecs``: by name ``ms`` and ``bytes`` per
      clip, ``clips_per_s_core``, and ``cores`` that one accelerator of ``RATES`` needs.
    """
    rows = np.unique(np.linspace(0, len(dataset) - 1, clips).astype(np.int64))
    frames = [dataset.frame(int(row)) for row in rows]
    blocks = list(zip(records.fetch(frames), frames, strict=True))
    crop = Crop(0.5, round(_LONGEST_S * SAMPLE_RATE))
    sounds = [record.audio for record in dataset.read_many(rows, audio=[crop] * len(rows))]
    samples = float(np.mean([len(sound) for sound in sounds]))

    def rest() -> None:
        for block, frame in blocks:
            records.decode(records.unpack(block, frame), "", audio=False)

    found, rest_ms = {}, _ms(rest, len(rows))
    for codec in records.CODECS:
        encoded = [(writing.encode_audio(sound, codec), codec, len(sound)) for sound in sounds]

        def decode(encoded: list[tuple[bytes, str, int]] = encoded) -> None:
            for sound in encoded:
                records.decode_audio(*sound)

        ms = rest_ms + _ms(decode, len(rows))
        found[codec] = {
            "ms": round(ms, 4),
            "clips_per_s_core": round(1e3 / ms, 1),
            "bytes": round(sum(len(sound) for sound, _, _ in encoded) / len(rows)),
            "cores": {name: round(rate * SAMPLE_RATE / samples * ms / 1e3, 3) for name, rate in RATES.items()},
        }
    seconds = round(samples / SAMPLE_RATE, 3)
    return {"codec": dataset.codec, "clips": len(rows), "audio_seconds": seconds, "codecs": found}


def _ms(work: Callable[[], None], clips: int) -> float:
    """Milliseconds of this thread's processor time per clip, in the fastest round."""
    times = []
    for _ in range(_ROUNDS):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return 1e3 * min(times) / clips


def reading_lines(reading: dict) -> Iterator[str]:
    """``measure_reading`` as text, and the codec that follows from it."""
    flac, pcm = (reading["codecs"][codec] for codec in ("flac", "pcm"))
    disk = pcm["bytes"] / flac["bytes"]
    yield (
        f"reading a clip ({reading['audio_seconds']:.1f} s of it) takes {flac['ms']:.2f} ms of a core as flac, "
        f"{flac['clips_per_s_core']:,.0f} clips/s, and {pcm['ms']:.2f} ms as pcm, which is {disk:.1f} times as large"
    )
    needs = [f"{flac['cores'][name]:.2f} as flac, {pcm['cores'][name]:.2f} as pcm" for name in RATES]
    yield (
        f"cores for each accelerator: {needs[0]} at the paper's rate ({RATES['paper_v100']:.0f} s of audio a second on "
        f"a V100); {needs[1]} on an H100 ({RATES['h100']:,.0f}, estimated)"
    )
    cores = flac["cores"]["h100"]
    if reading["codec"] != "pcm":
        yield f"so hosts with fewer than {cores:.1f} cores for each H100 need --codec pcm; others do not"
    else:
        yield f"so hosts with {cores:.1f} cores for each H100 can do with --codec flac"
    yield f"threads read with up to {THREADS} cores of a host; data.workers, in processes, with more"


def ahead_line(config: DataConfig, rungs: dict[str, dict]) -> str:
    """What a single host holds in memory for the batches of forecasts, see ``forecast.forecasts``."""
    buckets = [bucket for rung in rungs.values() for bucket in rung["buckets"]]
    sizes = [1e6 * bucket["megabytes"] + bucket["batch"] * (4 * config.text_budget + 64) for bucket in buckets]
    try:
        ahead = read_ahead(config, round(max(sizes)), max(bucket["batch"] for bucket in buckets))
    except UserError as error:
        return f"on one host {error}"
    readers = f"{config.workers} processes" if config.workers else f"{ahead.threads} threads"
    return (
        f"on one host {readers} read up to {ahead.bytes / 1e6:,.0f} MB ahead: {ahead.batches} batches of "
        f"{ahead.batch_bytes / 1e6:,.1f} MB, {ahead.batch_bytes / ahead.parts / 1e6:.1f} MB at a time"
    )
