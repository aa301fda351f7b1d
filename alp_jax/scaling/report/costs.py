"""What a sweep cost, per curve and rung, and the mean probe score that this bought."""

import dataclasses
from statistics import fmean
from typing import Any

from alp_jax.core.metrics import is_headline
from alp_jax.core.run_files import PROBES
from alp_jax.scaling.report.summary import curve_names, sort_names


@dataclasses.dataclass(frozen=True)
class TrainingCost:
    """Runs of one curve at one rung; numbers are means over the runs.

    Attributes:
      flops: of training. seconds: wall time of training. clips: per second of it. audio: seconds of audio per second.
      score: mean over probes that every trained run has, headline metric; None without any.
    """

    curve: str
    pairs: int
    runs: int
    params: float
    steps: float
    flops: float | None
    seconds: float | None
    clips: float | None
    audio: float | None
    score: float | None


def make_costs(rows: list[dict[str, Any]]) -> list[TrainingCost]:
    """One entry per curve and rung, in the order of the curves' names."""
    names = curve_names(rows)
    runs = {row["run"]: row for row in rows if row["steps"]}
    probes = {run: {} for run in runs}
    for row in rows:
        if row["run"] in runs and is_headline(row["metric"]) and row["pooling"] in PROBES:
            probes[row["run"]][row["task"], row["pooling"]] = row["value"]
    shared = set.intersection(*(set(one) for one in probes.values())) if probes else set()
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for run, row in runs.items():
        groups.setdefault((names[run], row["pairs"]), []).append(row)
    order = sort_names(name for name, _ in groups)
    keys = sorted(groups, key=lambda key: (order.index(key[0]), key[1]))
    return [_cost(*key, groups[key], probes, shared) for key in keys]


def _cost(curve: str, pairs: int, members: list[dict[str, Any]], probes: dict[str, dict], shared: set) -> TrainingCost:
    timed = [row for row in members if row["wall_seconds"]]
    seconds = fmean(row["wall_seconds"] for row in timed) if timed else None
    return TrainingCost(
        curve=curve,
        pairs=pairs,
        runs=len(members),
        params=fmean(row["params"] for row in members),
        steps=fmean(row["steps"] for row in members),
        flops=fmean(row["flops"] for row in members) if all(row["flops"] for row in members) else None,
        seconds=seconds,
        clips=fmean(row["samples_seen"] for row in timed) / seconds if timed else None,
        audio=fmean(row["audio_seconds"] for row in timed) / seconds if timed else None,
        score=fmean(probes[row["run"]][key] for row in members for key in shared) if shared else None,
    )
