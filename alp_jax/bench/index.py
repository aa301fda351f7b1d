"""What a big index costs in time and memory, and whether any number of hosts gets the same batches from it."""

import dataclasses
import functools
import os
import pathlib
import re
import tempfile
import time

import numpy as np

from alp_jax.bench import synthetic
from alp_jax.config.data_settings import data_settings
from alp_jax.config.schema import DataConfig
from alp_jax.core.errors import UserError
from alp_jax.core.processes import in_fresh_process
from alp_jax.core.progress import Progress
from alp_jax.data.order.batch_plan import plan
from alp_jax.data.order.forecast import RUNGS
from alp_jax.data.order.subset import open_rung
from alp_jax.data.pipeline import GlobalBatches
from alp_jax.data.store.dataset import Dataset, open_dataset

_SAMPLES = 40  # of memory, over a run


def memory_mb() -> dict[str, float]:
    """Resident memory of this process in megabytes: in total, its proportional share (PSS), and what is anonymous."""
    kb = {}
    for line in pathlib.Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, value, *_ = line.split()
        kb[name.rstrip(":")] = int(value)
    return {"rss": kb["Rss"] / 1e3, "pss": kb["Pss"] / 1e3, "anonymous": kb["Anonymous"] / 1e3}


def measure_grown(
    path: str, settings: list[str], clips: int, folder: str | None, *, lookups: int, batches: int
) -> dict:
    """``measure_index`` in a process of its own, on ``clips`` clips that share the records of a small data set.

    Args:
      path: of the small data set.
      settings: of ``config.data``, as KEY=VALUE; where none is a mixture, one of all sources is used.
      folder: where the index is kept; None: a temporary one.

    Raises:
      UserError: an unknown or invalid setting or number, or a system without /proc.
    """
    if batches < 0:
        raise UserError(f"--batches {batches}: must not be negative")
    if not pathlib.Path("/proc/self/smaps_rollup").exists():
        raise UserError("alp bench index measures memory with /proc, which this system does not have")
    base, config = open_dataset(path), data_settings(settings, DataConfig(bucket_seconds=()))
    weights = ",".join(f"{name}={weight}" for name, weight in synthetic.WEIGHTS.items())
    config = config if config.mixture else dataclasses.replace(config, mixture=weights)
    with tempfile.TemporaryDirectory() as temporary:
        grown = pathlib.Path(folder or temporary)
        synthetic.make(base, grown, clips)
        run = functools.partial(measure_index, str(grown), temporary, config, lookups=lookups, batches=batches)
        return in_fresh_process(functools.partial(run, steps=100, hosts=(1, 2, 4, 1)))


def measure_index(
    path: str, cache: str, config: DataConfig, *, lookups: int, steps: int, hosts: tuple[int, ...], batches: int
) -> dict:
    """Opens, plans and reads the data set at ``path`` in this process; run it in a fresh one.

    Args:
      cache: folder that becomes this process's cache folder; nothing is planned in it yet.
      config: how batches are made; rungs and buckets vary.
      lookups: random global batches that are looked up.
      steps: of a run that is continued on each number of ``hosts`` in turn and compared with a run on one host.
      batches: number read, one after another, while memory is watched; 0 reads none.

    Returns:
      seconds, megabytes and facts, by name.
    """
    os.environ["ALP_CACHE"] = cache
    before, start = memory_mb(), time.perf_counter()
    dataset = open_dataset(path)
    columns = [dataset.column(name) for name in ("shard", "offset", "num_samples", "ladder", "source")]
    dataset.read(len(dataset) - 1)
    report = {
        "clips": len(columns[0]),
        "open_s": time.perf_counter() - start,
        "open_mb": _more_than(before),
    }
    report["rungs"] = _rungs(dataset, config)
    start = time.perf_counter()
    source = GlobalBatches(dataset, config, _NoTokens(), 0, 0, 1)
    report["restore_s"] = time.perf_counter() - start
    report["lookup_ms"] = _lookups(source, lookups)
    report["hosts_agree"] = _hosts_agree(dataset, config, steps, hosts)
    # peak resident memory of this process; getrusage would give its parent's where that was larger
    status = pathlib.Path("/proc/self/status").read_text()
    peak_mb = int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[1]) / 1e3
    report["planned_mb"] = _more_than(before) | {"peak": peak_mb - before["rss"]}
    if batches:
        report["memory"] = _watch(source, batches)
    return report


def _more_than(before: dict[str, float]) -> dict[str, float]:
    return {key: round(value - before[key], 1) for key, value in memory_mb().items()}


class _NoTokens:
    """Stands for a tokenizer where captions do not matter."""

    pad_id = 0

    def encode(self, text: str) -> list[int]:
        return [1] * len(text.split())


def _rungs(dataset: Dataset, config: DataConfig) -> dict:
    """Per rung: time to plan it, whether it contains the one before, and how far source shares are from the whole's."""
    total = int(dataset.num_captions[dataset.ladder >= 0].sum())
    dataset.release()
    rungs, before, shares = {}, np.empty(0, np.int32), {}
    for name, pairs in ({name: count for name, count in RUNGS.items() if count < total} | {"all": 0}).items():
        start = time.perf_counter()
        settings = dataclasses.replace(config, pairs=pairs)
        chosen = plan(dataset, settings, seed=0)
        seconds = time.perf_counter() - start
        rung = open_rung(dataset, settings)
        rows = np.sort(np.concatenate([*rung.rows.values()]))
        clips = np.array(rung.summary.source_clips).sum(0)
        shares[name] = clips / clips.sum()
        rungs[name] = {
            "pairs": chosen.pairs,
            "plan_s": seconds,
            "padding": chosen.padding,
            "cropped": chosen.cropped,
            "buckets": len(chosen.buckets),
            "holds_the_one_before": bool((rows[np.searchsorted(rows, before).clip(max=len(rows) - 1)] == before).all()),
        }
        before = rows
        if rung.table:
            rung.table.release()
    for name, share in shares.items():
        rungs[name]["largest_share_off"] = float(np.abs(share - shares["all"]).max())
    return rungs


def _lookups(source: GlobalBatches, count: int) -> dict[str, float]:
    """Milliseconds to look up the rows of random global batches, first look-ups included."""
    steps = np.random.default_rng(0).integers(0, 10**7, count)
    times_ms = []
    for step in steps.tolist():
        start = time.perf_counter()
        source.clips(step)
        times_ms.append(1e3 * (time.perf_counter() - start))
    mean, late, most = np.mean(times_ms), np.quantile(times_ms, 0.99), np.max(times_ms)
    return {"mean": float(mean), "99 %": float(late), "max": float(most)}


def _hosts_agree(dataset: Dataset, config: DataConfig, steps: int, hosts: tuple[int, ...]) -> bool:
    """Whether a run that is continued on other numbers of hosts takes the same rows, crops and captions."""
    alone = GlobalBatches(dataset, config, _NoTokens(), 0, 0, 1)
    for turn, count in enumerate(hosts):
        parts = [GlobalBatches(dataset, config, _NoTokens(), 0, host, count) for host in range(count)]
        for step in range(turn * steps, (turn + 1) * steps):
            shape, *want = alone.clips(step)
            got = [part.clips(step) for part in parts]
            together = [np.concatenate(piece) for piece in zip(*(g[1:] for g in got), strict=True)]
            if {g[0] for g in got} != {shape} or not all(map(np.array_equal, together, want)):
                return False
    return True


def _watch(source: GlobalBatches, batches: int) -> dict:
    """Memory while ``batches`` batches are read: its course, and how far it strays from its mean after warming up."""
    course, clips, start = [], 0, time.perf_counter()
    with Progress("read batches", batches, "batches") as progress:
        for step in range(batches):
            clips += len(source[step]["row"])
            progress.update()
            if step % max(1, batches // _SAMPLES) == 0:
                course.append(memory_mb()["rss"])
    settled = np.array(course[len(course) // 10 :])
    return {
        "batches": batches,
        "clips": clips,
        "clips_per_s": clips / (time.perf_counter() - start),
        "rss_mb": [round(value) for value in course],
        "largest_deviation": float(np.abs(settled / settled.mean() - 1).max()),
    }
