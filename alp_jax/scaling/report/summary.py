"""Gathers seeds into points and points into curves, and compares trained encoders with untrained ones."""

import dataclasses
import math
import pathlib
from collections.abc import Iterable
from typing import Any

from alp_jax.core import metrics
from alp_jax.core.errors import UserError
from alp_jax.core.run_files import PROBES
from alp_jax.scaling.glossary import OBJECTIVES, SCRATCH, family, is_language, is_retrieval
from alp_jax.scaling.sweep.ledger import COLUMNS, KEY

_NAMES = ("objective", "init", "model")  # columns of a ledger that hold text, besides its key
_COUNTS = ("params", "pairs", "steps", "samples_seen", "seed")
_Z = 1.959964  # two-sided 95% of a normal distribution


@dataclasses.dataclass(frozen=True)
class Point:
    """Runs that differ only in their seed; ``low`` and ``high`` are the mean ends of the runs' own 95% intervals."""

    pairs: int
    values: tuple[float, ...]
    low: float | None
    high: float | None

    @property
    def mean(self) -> float:
        """The mean over the runs."""
        return sum(self.values) / len(self.values)

    @property
    def spread_known(self) -> bool:
        """Whether an interval can be stated: from the test set, from several seeds, or both."""
        return self.low is not None or len(self.values) > 1

    @property
    def variance(self) -> float:
        """Squared standard error: the test set's (not averaged over seeds, which share it) plus the seeds'."""
        test = 0.0 if self.low is None else ((self.high - self.low) / (2 * _Z)) ** 2
        n = len(self.values)
        seeds = sum((v - self.mean) ** 2 for v in self.values) / (n - 1) / n if n > 1 else 0.0
        return test + seeds


@dataclasses.dataclass(frozen=True)
class Panel:
    """Everything about one (task, pooling, metric): curves by name, and the lines they are compared with.

    Encoders without a step of training are such lines: ``untrained``, with random parameters, and ``start``, the
    supervised encoder that runs of the sweep begin with (the mean where there are several).
    """

    task: str
    pooling: str
    metric: str
    chance: float | None
    floor: float | None
    untrained: Point | None
    curves: dict[str, list[Point]]
    start: Point | None = None

    @property
    def retrieval(self) -> bool:
        """Whether its task is a retrieval task."""
        return is_retrieval(self.task)


@dataclasses.dataclass(frozen=True)
class Difference:
    """How much better trained is than untrained, with its 95% interval; ``verdict`` is better, worse or undecided."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """``undecided`` if the interval includes 0."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "undecided"


def typed_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a ledger's table that were read from text: numbers as numbers, empty cells and missing columns as None.

    Raises:
      UserError: a cell that has to be a number is not one.
    """
    typed = []
    for row in rows:
        one: dict[str, Any] = dict.fromkeys(COLUMNS) | row
        for column in set(COLUMNS) - {*KEY, *_NAMES}:
            try:
                one[column] = None if one[column] in (None, "") else (int if column in _COUNTS else float)(one[column])
            except ValueError:
                raise UserError(f"run {row.get('run')}: {column} {row[column]!r} is not a number") from None
        typed.append(one)
    return typed


def curve_names(rows: list[dict[str, Any]]) -> dict[str, str]:
    """run -> name of its curve: the objective, with model, start and variant where the sweep has several."""
    columns = [c for c in ("model", "init", "variant") if len({str(r.get(c)) for r in rows if r["steps"]}) > 1]
    names = {}
    for row in rows:
        parts = [row["objective"]]
        for column in columns:
            text = str(row.get(column, ""))
            parts.append(f"from {pathlib.PurePath(text).name}" if column == "init" else text)
        names[row["run"]] = ", ".join(part for part in parts if part)
    return names


def sort_names(names: Iterable[str]) -> list[str]:
    """Curves as a report lists them: objectives in their customary order, a start from scratch before others."""

    def key(name: str) -> tuple:
        objective, _, rest = name.partition(", ")
        known = OBJECTIVES.index(objective) if objective in OBJECTIVES else len(OBJECTIVES)
        return known, objective, "from scratch" not in rest, rest

    return sorted(set(names), key=key)


def make_panels(rows: list[dict[str, Any]]) -> list[Panel]:
    """Panels of a ledger table, probes before retrieval."""
    names = curve_names(rows)
    by_panel: dict[tuple, list[dict[str, Any]]] = {}
    for row in rows:
        by_panel.setdefault((row["task"], row["pooling"], row["metric"]), []).append(row)
    panels = []
    for (task, pooling, metric), members in by_panel.items():
        trained = [row for row in members if row["steps"]]
        curves = {}
        for name in sort_names(names[row["run"]] for row in trained):
            own = [row for row in trained if names[row["run"]] == name]
            curves[name] = [_point(own, pairs) for pairs in sorted({row["pairs"] for row in own})]
        untrained = [row for row in members if not row["steps"] and row["init"] == SCRATCH]
        start = [row for row in members if not row["steps"] and row["init"] != SCRATCH]
        panels.append(
            Panel(
                task,
                pooling,
                metric,
                _mean(members, "chance"),
                _mean(members, "floor"),
                _point(untrained, untrained[0]["pairs"]) if untrained else None,
                curves,
                _point(start, start[0]["pairs"]) if start else None,
            )
        )
    return sorted(
        panels,
        key=lambda p: (is_language(p.task), p.retrieval, p.pooling, p.task, metrics.sort_key(p.metric)),
    )


def difference(metric: str, trained: Point, untrained: Point) -> Difference | None:
    """Difference with a normal interval from both variances, as if independent: cautious, since test clips are shared.

    None for a metric whose better direction is unknown, and for numbers whose spread is unknown.
    """
    if metric not in metrics.METRICS or not (trained.spread_known and untrained.spread_known):
        return None
    half = _Z * math.sqrt(trained.variance + untrained.variance)
    value = metrics.METRICS[metric].gain(trained.mean, untrained.mean)
    return Difference(value, value - half, value + half)


def family_verdicts(panels: list[Panel]) -> list[dict[str, Any]]:
    """Per family and curve: how the largest rung compares with the untrained encoder, over tasks and probes."""
    by_family: dict[tuple[str, str], list[Difference]] = {}
    for panel in panels:
        if panel.pooling not in PROBES or panel.untrained is None or not metrics.is_headline(panel.metric):
            continue
        for name, points in panel.curves.items():
            key = (family(panel.task), name)
            versus = difference(panel.metric, points[-1], panel.untrained)
            if versus is not None:
                by_family.setdefault(key, []).append(versus)
    verdicts = []
    order = sort_names(name for _, name in by_family)
    for (group, name), differences in sorted(by_family.items(), key=lambda item: (item[0][0], order.index(item[0][1]))):
        mean = sum(d.value for d in differences) / len(differences)
        counts = {v: sum(d.verdict == v for d in differences) for v in ("better", "worse", "undecided")}
        verdicts.append(
            {"family": group, "curve": name, "mean": mean, "beats": mean > 0, "of": len(differences)} | counts
        )
    return verdicts


def retrieval_verdicts(panels: list[Panel]) -> list[dict[str, Any]]:
    """Per retrieval panel and curve with a known chance: value at the largest rung and how many times chance it is."""
    verdicts = []
    for panel in panels:
        if not panel.retrieval or not metrics.is_headline(panel.metric) or not panel.chance:
            continue
        for name, points in panel.curves.items():
            row = {"task": panel.task, "pooling": panel.pooling, "metric": panel.metric, "curve": name}
            verdicts.append(
                row | {"value": points[-1].mean, "chance": panel.chance, "ratio": points[-1].mean / panel.chance}
            )
    return verdicts


def _point(rows: list[dict[str, Any]], pairs: int) -> Point:
    own = [row for row in rows if row["pairs"] == pairs]
    return Point(pairs, tuple(row["value"] for row in own), _mean(own, "interval_low"), _mean(own, "interval_high"))


def _mean(rows: list[dict[str, Any]], column: str) -> float | None:
    known = [row[column] for row in rows if row[column] is not None]
    return sum(known) / len(known) if known else None
