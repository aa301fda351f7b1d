"""What each setting of a sweep is worth: runs that differ in it alone are compared with one another."""

import dataclasses
import itertools
import math
import pathlib
from collections import Counter
from typing import Any

from scipy import stats

from alp_jax.core.metrics import METRICS, is_headline
from alp_jax.core.run_files import PROBES
from alp_jax.scaling.glossary import OBJECTIVES, SCRATCH, is_retrieval, task_title
from alp_jax.scaling.report.sections.settings import setting_rows
from alp_jax.scaling.report.study import Study
from alp_jax.scaling.report.variants import AXES

ALL_PROBES = "All probes"


@dataclasses.dataclass(frozen=True)
class Gain:
    """Mean gain over the base value across ``pairs`` of matched runs, with its 95% interval (None: one pair)."""

    mean: float
    low: float | None
    high: float | None
    pairs: int

    @property
    def verdict(self) -> str:
        """``better``, ``worse``, or ``undecided`` where the interval is unknown or includes 0."""
        if self.low is None:
            return "undecided"
        return "better" if self.low > 0 else "worse" if self.high < 0 else "undecided"


@dataclasses.dataclass(frozen=True)
class Ablation:
    """One setting: ``rows`` maps each of its values but ``base`` to the gains over ``base``, column by column."""

    axis: str
    base: str
    columns: list[str]
    rows: dict[str, list[Gain | None]]


def context(study: Study) -> dict[str, Any] | None:
    """The tables and the meanings of their settings; None without a table."""
    tables = ablations(study.rows, study.varied)
    meanings = {row["name"]: row["meaning"] for row in setting_rows(list(study.configs.values()))}
    return {"ablations": tables, "meanings": meanings} if tables else None


def ablations(rows: list[dict[str, Any]], settings: list[str]) -> list[Ablation]:
    """A table for each axis (objective, model, start, ``settings``) that has several values and matched runs.

    Matched runs have the same pairs, seed and values of all other axes. Columns are tasks; a run's poolings are
    averaged before runs are compared, so that the interval (Student's t over pairs of runs) does not count them twice.
    """
    axes = [*AXES, *settings]
    values = _values([row for row in rows if row["steps"] and is_headline(row["metric"])], axes)
    tables = []
    for axis in axes:
        counts = Counter(position[axis] for position, _ in values)
        if len(counts) < 2:
            continue
        customary = next((v for v in (SCRATCH, *OBJECTIVES) if v in counts), None)
        base = customary or min(counts, key=lambda v: (-counts[v], v))
        others = {value: _gains(values, axis, base, value) for value in sorted(counts) if value != base}
        columns = list(dict.fromkeys(itertools.chain.from_iterable(others.values())))
        if columns:
            columns.sort(key=lambda c: c != ALL_PROBES)
            table = {_short(v): [gains.get(c) for c in columns] for v, gains in others.items() if gains}
            tables.append(Ablation(axis, _short(base), columns, table))
    return tables


def gain(differences: list[float]) -> Gain:
    """Mean and Student's t interval of differences that are taken as independent."""
    n = len(differences)
    mean = sum(differences) / n
    if n < 2:
        return Gain(mean, None, None, n)
    spread = math.sqrt(sum((d - mean) ** 2 for d in differences) / (n - 1) / n)
    half = float(stats.t.ppf(0.975, n - 1)) * spread
    return Gain(mean, mean - half, mean + half, n)


Values = list[tuple[dict[str, str], dict[tuple[str, str], float]]]


def _values(rows: list[dict[str, Any]], axes: list[str]) -> Values:
    """Per run: where it stands on the axes (and its pairs and seed), and (task, pooling) -> headline value.

    Values of metrics for which lower is better change sign, so that a gain is above 0.
    """
    by_run: dict[str, tuple[dict[str, str], dict[tuple[str, str], float]]] = {}
    for row in rows:
        position = {axis: str(row[axis]) for axis in (*axes, "pairs", "seed")}
        by_run.setdefault(row["run"], (position, {}))[1][row["task"], row["pooling"]] = METRICS[row["metric"]].gain(
            row["value"], 0.0
        )
    return list(by_run.values())


def _gains(values: Values, axis: str, base: str, value: str) -> dict[str, Gain]:
    def rest(position: dict[str, str]) -> tuple:
        return tuple((k, v) for k, v in position.items() if k != axis)

    bases = {rest(position): own for position, own in values if position[axis] == base}
    columns: dict[str, list[float]] = {}
    for position, own in values:
        other = bases.get(rest(position))  # the run that differs in this axis alone
        if position[axis] != value or other is None:
            continue
        tasks: dict[str, list[float]] = {}
        for (task, pooling), number in own.items():
            if (task, pooling) in other and (pooling in PROBES or is_retrieval(task)):
                tasks.setdefault(task, []).append(number - other[task, pooling])
        means = {task: sum(d) / len(d) for task, d in tasks.items()}
        probes = [mean for task, mean in means.items() if not is_retrieval(task)]
        for task in sorted(means, key=lambda t: (is_retrieval(t), t)):
            columns.setdefault(task_title(task), []).append(means[task])
        if probes:
            columns.setdefault(ALL_PROBES, []).append(sum(probes) / len(probes))
    return {column: gain(differences) for column, differences in columns.items()}


def _short(value: str) -> str:
    return pathlib.PurePath(value).name or value
