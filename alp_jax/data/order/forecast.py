"""Forecasts what a run will see of its data, per source and bucket, from the plan alone and without reading data."""

import dataclasses
import pathlib

import numpy as np

from alp_jax.config.schema import DataConfig
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError
from alp_jax.data.order import compose
from alp_jax.data.order.batch_plan import make_recipe, padding, plan
from alp_jax.data.order.buckets import batch_size, edges, widths
from alp_jax.data.order.subset import Rung, open_rung
from alp_jax.data.store.dataset import Dataset, open_dataset
from alp_jax.data.store.schema import INFO

RUNGS = {"400k": 400_000, "1m": 1_000_000, "4m": 4_000_000, "10m": 10_000_000}


def rungs_of(dataset: Dataset, config: DataConfig) -> dict[str, int]:
    """Rungs to describe, by name: ``config.pairs`` alone, or those that the chosen sources can fill, and all clips."""
    if config.pairs:
        return {str(config.pairs): config.pairs}
    everything = open_rung(dataset, config)
    pairs = int(np.array(everything.summary.source_pairs).sum())
    return {name: count for name, count in RUNGS.items() if count < pairs} | {"all": 0}


def forecasts(dataset: Dataset, config: DataConfig, *, seed: int, steps: int, devices: int = 1) -> dict[str, dict]:
    """``forecast`` of every rung that ``rungs_of`` names; UserError also for negative ``steps`` or ``devices``."""
    for knob, value in (("steps", steps), ("devices", devices)):
        if value < 0:
            raise UserError(f"{knob} = {value}: must not be negative")
    return {
        name: forecast(dataset, dataclasses.replace(config, pairs=pairs), seed=seed, steps=steps, devices=devices)
        for name, pairs in rungs_of(dataset, config).items()
    }


def forecast(dataset: Dataset, config: DataConfig, *, seed: int, steps: int, devices: int = 1) -> dict:
    """A run of ``steps`` on one rung, in numbers.

    Returns:
      ``fingerprint``, ``pairs``, ``clips``, ``hours``, ``batches_per_epoch``, and as shares ``cropped``, ``padding``,
      ``text_padding`` and ``waste``, see ``BatchPlan``;
      ``buckets``: per shape ``seconds``, ``tokens``, ``batch``, ``clips``, ``steps_share``, the three kinds of padding,
      ``megabytes`` of audio;
      ``sources``: by name ``pairs``, ``clips``, ``hours``, ``share`` (of the rung's clips), ``drawn`` (share of the
      clips that the run takes), ``epochs`` (times that the run takes as many clips as there are), ``repeats`` (most
      often that one clip is taken), ``runs_out`` (step after which as many clips were taken as there are; None if the
      run ends earlier).
    """
    described = plan(dataset, config, seed=seed, devices=devices)
    rung = open_rung(dataset, config)
    recipe = make_recipe(rung, dataset, config)
    taken_KC = taken(recipe, steps)
    seconds = np.array(rung.summary.edges) / SAMPLE_RATE
    used = taken_KC.sum(1) / recipe.batch_K
    buckets = [
        {
            "seconds": round(float(seconds[k]), 3),
            "tokens": rung.summary.tokens[k],
            "batch": batch,
            "clips": described.buckets[k].clips,
            "steps_share": float(used[k] / used.sum()) if used.sum() else 0.0,
            **padding(rung, np.where(np.arange(len(seconds))[:, None] == k, np.maximum(taken_KC, 0), 0)),
            "megabytes": round(2e-6 * batch * rung.summary.edges[k], 3),
        }
        for k, batch in enumerate(recipe.batch_K)
    ]
    return dataclasses.asdict(described) | {
        "steps": steps,
        **padding(rung, taken_KC),
        "stages": [stage.start for stage in recipe.stages],
        "buckets": buckets,
        "sources": _sources(dataset, rung, recipe, steps),
    }


@dataclasses.dataclass(frozen=True)
class ShapeUse:
    """A batch shape, ``clips`` of ``seconds`` with captions of ``tokens``, and the share of the steps that take it."""

    seconds: float
    tokens: int
    clips: int
    share: float = 1.0

    @property
    def audio_s(self) -> float:
        """Seconds of audio in a global batch, padding included."""
        return self.seconds * self.clips


def shape_uses(config: DataConfig, *, seed: int, steps: int) -> list[ShapeUse]:
    """The shapes of a run of ``steps`` on its data set or, if that is not here, those that the settings name.

    Of the latter, each is taken equally often; there are none where the data decides.
    """
    if "://" in config.path or (pathlib.Path(config.path) / INFO).is_file():
        rows = forecast(open_dataset(config.path), config, seed=seed, steps=steps)["buckets"]
        return [ShapeUse(row["seconds"], row["tokens"], row["batch"], row["steps_share"]) for row in rows]
    if not config.bucket_seconds:
        return []
    lengths, tokens = edges(config.bucket_seconds).tolist(), widths(config).tolist()
    share = 1 / (len(lengths) * len(tokens))
    return [
        ShapeUse(length / SAMPLE_RATE, width, batch_size(length, config), share)
        for length in lengths
        for width in tokens
    ]


def taken(recipe: compose.Recipe, steps: int) -> np.ndarray:
    """Clips that the first ``steps`` steps take from every (bucket, component); float64[K, C].

    Exact at the ends of blocks of ``compose.BLOCK`` steps, interpolated in between.
    """
    if recipe.in_passes:
        return recipe.size_KC * (steps / (recipe.size_KC[:, 0] / recipe.batch_K).sum())
    before = recipe.before(steps)[1]
    return before + recipe.stages[recipe.stage(steps)].entries_KC * ((steps % compose.BLOCK) / compose.BLOCK)


class _Source:
    """One source of a rung: how many of its clips a run takes."""

    def __init__(self, rung: Rung, recipe: compose.Recipe, s: int, name: str):
        summary = rung.summary
        self._recipe, self._mixed = recipe, len(summary.components) > 1
        self._component = summary.components.index(name) if self._mixed else 0
        clips_KS = np.array(summary.source_clips)
        self.clips_K = clips_KS[:, s]
        self._part_K = self.clips_K / np.maximum(1, clips_KS.sum(1))

    def taken(self, steps: int) -> np.ndarray:
        """Clips that ``steps`` steps take, by bucket; without weights each source gets its share of what is taken."""
        taken_K = taken(self._recipe, steps)[:, self._component]
        return taken_K if self._mixed else taken_K * self._part_K

    def runs_out(self, steps: int) -> int | None:
        """The first step by which as many clips were taken as there are; None if ``steps`` steps do not suffice."""
        low, high, clips = 0, steps, self.clips_K.sum() * (1 - 1e-12)
        if self.taken(steps).sum() < clips:
            return None
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.taken(middle).sum() < clips else (low, middle)
        return low


def _sources(dataset: Dataset, rung: Rung, recipe: compose.Recipe, steps: int) -> dict[str, dict]:
    summary = rung.summary
    clips, pairs, samples = (
        np.array(table).sum(0) for table in (summary.source_clips, summary.source_pairs, summary.source_samples)
    )
    total, by_source = taken(recipe, steps).sum(), {}
    for s in np.flatnonzero(clips):
        source = _Source(rung, recipe, s, dataset.sources[s])
        taken_K = source.taken(steps)
        by_source[dataset.sources[s]] = {
            "pairs": int(pairs[s]),
            "clips": int(clips[s]),
            "hours": round(float(samples[s]) / SAMPLE_RATE / 3600, 4),
            "share": float(clips[s] / clips.sum()),
            "drawn": float(taken_K.sum() / max(1.0, total)),
            "epochs": float(taken_K.sum() / clips[s]),
            "repeats": int(np.ceil((taken_K / np.maximum(1, source.clips_K)).max() - 1e-9)),
            "runs_out": source.runs_out(steps),
        }
    return dict(sorted(by_source.items()))
