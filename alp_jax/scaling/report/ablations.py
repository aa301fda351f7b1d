"""What each setting of a sweep is worth: runs that differ in it alone are compared with one another."""

import dataclasses
import itertools
import math
import pathlib
from collections import Counter
from typing import Any

from scipy import stats

from alp_jax.core.metrics import METRICS, is_headline
from alp_jax.scaling.glossary import OBJECTIVES, PROBES, is_retrieval, setting_words, task_title
from alp_jax.scaling.report.settings import flatten

AXES = ("objective", "model", "init")  # columns of a ledger that tell curves apart
_POSITION = ("objective", "model", "init", "pairs", "seed")
ALL_PROBES = "All probes"


@dataclasses.dataclass(frozen=True)
class Gain:
    """Mean of value minus value of the base over ``pairs`` of matched runs, with its 95% interval (None: one pair)."""

    mean: float
    low: float | None
    high: float | None
    pairs: int

    @property
    def verdict(self) -> str:
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


def add_variants(rows: list[dict[str, Any]], configs: dict[str, dict[str, Any]]) -> list[str]:
    """Gives every row the column ``variant`` and a column for each setting that the sweep varies on purpose.

    A setting is varied on purpose where two trained runs of equal objective, model, start, pairs and seed differ in it;
    what follows from those (as steps do from pairs) is not. Without this, such runs would pass for seeds of one point.

    Args:
      configs: run -> its configuration, as far as there is one.

    Returns:
      The settings; settings that always change together are one, named by the first.
    """
    flat = {run: {k: str(v) for k, v in flatten(config) if k != "seed"} for run, config in configs.items()}
    runs = {row["run"]: row for row in rows if row["steps"] and row["run"] in flat}
    names, partitions = [], set()
    for name in sorted({name for run in runs for name in flat[run]}):
        values_at: dict[tuple, set] = {}
        for run, row in runs.items():
            values_at.setdefault(tuple(str(row[c]) for c in _POSITION), set()).add(flat[run].get(name))
        partition = tuple(_ranks([flat[run].get(name) for run in runs]))
        if any(len(values) > 1 for values in values_at.values()) and partition not in partitions:
            names.append(name)
            partitions.add(partition)
    families: dict[tuple, dict[str, set]] = {}
    for run, row in runs.items():
        for name in names:
            family = families.setdefault(tuple(str(row[c]) for c in AXES), {})
            family.setdefault(name, set()).add(flat[run].get(name))
    for row in rows:
        settings = flat.get(row["run"], {})
        varied = families.get(tuple(str(row[c]) for c in AXES), {})
        own = [name for name in names if len(varied.get(name, ())) > 1] if row["steps"] else []
        row["variant"] = ", ".join(f"{setting_words(name)} {settings.get(name)}" for name in own)
        row |= {name: settings.get(name, "") for name in names}
    return names


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
        customary = next((v for v in ("scratch", *OBJECTIVES) if v in counts), None)
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

    Values of metrics of which lower is better have their sign turned, so that a gain is above 0.
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
        other = bases.get(rest(position))
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


def _ranks(values: list[Any]) -> list[int]:
    first: dict[Any, int] = {}
    return [first.setdefault(value, len(first)) for value in values]


def _short(value: str) -> str:
    return pathlib.PurePath(value).name or value
