"""Turns the rows of a table into curves that can be fitted, and accounts for every row that cannot be used."""

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from alp_jax.core.errors import UserError
from alp_jax.core.metrics import METRICS, Metric, foreign
from alp_jax.core.names import nearest
from alp_jax.scaling.sweep.ledger import KEY

GROUP = ("objective", "init", "model", "task", "pooling", "metric")
_VALUE = "value"
_VARIED_BY = {"params": "model"}  # input -> the column that changes along with it and so must not split a curve
DERIVED: dict[str, tuple[tuple[str, ...], Callable[..., float]]] = {  # inputs computed where the table lacks them
    "unique": (("pairs", "samples_seen"), min),
    "epochs": (("pairs", "samples_seen"), lambda pairs, seen: max(1.0, seen / pairs)),
}


class Excluded:
    """The rows left out, by reason: their number and the first three of each."""

    def __init__(self):
        self._reasons: dict[str, list[str]] = {}

    def add(self, reason: str, example: str) -> None:
        """Counts a row, shown as ``example``, as left out for ``reason``."""
        self._reasons.setdefault(reason, []).append(example)

    def add_curve(self, curve: "Curve", reason: str) -> None:
        """Counts every row of ``curve`` as left out for ``reason``."""
        for row in curve.rows:
            self.add(reason, row_name(row))

    def to_list(self) -> list[dict[str, Any]]:
        """For JSON: every reason with the number of its rows and up to three examples."""
        return [{"reason": r, "count": len(names), "examples": names[:3]} for r, names in self._reasons.items()]

    def __str__(self) -> str:
        return "; ".join(f"{len(names)} rows: {reason}" for reason, names in self._reasons.items())


@dataclasses.dataclass(frozen=True)
class Curve:
    """Runs that one law is fitted to: inputs ``x`` [n,d], errors ``y`` [n], their table rows and training seeds."""

    group: dict[str, str]
    x: np.ndarray
    y: np.ndarray
    rows: list[dict[str, Any]]
    seeds: list[str] | None

    @property
    def name(self) -> str:
        """The values of its group, with spaces between them."""
        return " ".join(self.group.values())


def make_curves(
    rows: list[dict[str, Any]],
    x: tuple[str, ...],
    y: str = "error",
    group: Iterable[str] | None = None,
) -> tuple[list[Curve], Excluded]:
    """Curves in the order of their groups, and what was left out.

    Args:
      x: columns of the inputs; ``unique`` and ``epochs`` are computed from pairs and samples_seen where the table lacks
        them.
      y: column of the error. Where the table has no column ``error``, that name stands for the error of ``value`` by
        the row's metric (1 - value for a share); for metrics unknown to this package, see ``state_best``.
      group: columns that tell curves apart; None takes those of ``GROUP`` that the table has.

    Raises:
      UserError: a column does not exist (the nearest is named), a group mixes values of a column in ``GROUP``, or a run
        has two different results for the same thing.
    """
    columns = list(rows[0])
    varied = {_VARIED_BY[name] for name in x if name in _VARIED_BY}
    group = tuple(group) if group is not None else tuple(c for c in GROUP if c in columns and c not in varied)
    value = "value" if is_derived(y, columns) else y
    inputs = _needed(x, columns)
    for name in (*inputs, value, *group):
        if name not in columns:
            close = difflib.get_close_matches(name, columns, n=1, cutoff=0.0)
            raise UserError(f"the table has no column {name!r} (nearest: {close[0]!r}; it has {', '.join(columns)})")
    known = _metrics(rows) if is_derived(y, columns) else {}
    excluded, groups = Excluded(), {}
    seen: dict[tuple, dict[str, Any]] = {}
    for row in rows:
        if _repeated(row, inputs, value, seen):
            excluded.add("repeated row", row_name(row))
            continue
        try:
            point = _point(row, x, y, columns, known)
        except _Unusable as reason:
            excluded.add(str(reason), row_name(row))
            continue
        groups.setdefault(tuple(str(row[c]) for c in group), []).append((*point, row))
    curves = []
    for key, members in sorted(groups.items()):
        x_nd, y_n, own_rows = zip(*members, strict=True)
        names = dict(zip(group, key, strict=True))
        _refuse_mixture(names, own_rows, {*group, *varied})
        seeds = [str(row["seed"]) for row in own_rows] if "seed" in columns and "seed" not in group else None
        curves.append(Curve(names, np.array(x_nd), np.array(y_n), list(own_rows), seeds))
    return curves, excluded


def keep_rows(rows: list[dict[str, Any]], where: dict[str, str]) -> list[dict[str, Any]]:
    """The rows that have all the values of ``where`` (column -> value).

    Raises:
      UserError: no such column, or no such row.
    """
    for column, value in where.items():
        if column not in rows[0]:
            raise UserError(f"--where {column}={value}: the table has no such column{nearest(column, rows[0])}")
        values = {str(row[column]) for row in rows}
        if value not in values:
            raise UserError(f"--where {column}={value}: no such row{nearest(value, values)}")
    kept = [row for row in rows if all(str(row[column]) == value for column, value in where.items())]
    if not kept:
        raise UserError(f"--where {','.join(f'{k}={v}' for k, v in where.items())}: no row has all of these")
    return kept


def is_derived(y: str, columns: Iterable[str]) -> bool:
    """Whether ``y`` stands for the error of ``value``."""
    return y == "error" and "error" not in columns and "value" in columns


def state_best(rows: list[dict[str, Any]], best: dict[str, float]) -> list[dict[str, Any]]:
    """Copies of the rows with a column ``best``, the value of a perfect result, for metrics unknown to this package.

    Args:
      best: metric -> that value; in a table without a column ``metric``, the name is ``value``.

    Raises:
      UserError: no such metric in the table, one that is known already, or values on both sides of the best one.
    """
    stated_rows = [dict(row) for row in rows]
    for name, stated in best.items():
        own = [row for row in stated_rows if str(row.get("metric", _VALUE)) == name]
        if not own:
            known = {str(row.get("metric", _VALUE)) for row in rows}
            raise UserError(f"--best {name}={stated:g}: no row has such a metric{nearest(name, known)}")
        foreign(name, stated, [value for row in own if (value := number(row.get(_VALUE))) is not None])
        for row in own:
            row["best"] = stated
    return stated_rows


def formula(rows: list[dict[str, Any]]) -> str:
    """How the error follows from ``value``, for every metric of a table: ``1 - value``, for instance."""
    return ", ".join(sorted({metric.formula for metric in _metrics(rows).values()}))


def _metrics(rows: list[dict[str, Any]]) -> dict[str, Metric]:
    """The metrics of a table whose better direction is known."""
    values: dict[tuple[str, float], list[float]] = {}
    known = {}
    for row in rows:
        name = str(row.get("metric", _VALUE))
        if name in METRICS:
            known[name] = METRICS[name]
        elif row.get("best") is not None and (value := number(row.get(_VALUE))) is not None:
            values.setdefault((name, row["best"]), []).append(value)
    return known | {name: foreign(name, best, own) for (name, best), own in values.items()}


def row_name(row: dict[str, Any]) -> str:
    """What a row is called in messages."""
    known = [str(row[column]) for column in KEY if column in row]
    return "/".join(known or [str(value) for value in list(row.values())[:4]])


def number(cell: Any) -> float | None:
    """The number in a cell, or None."""
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None


class _Unusable(Exception):
    """Why a row is not a point of a curve."""


def _needed(x: tuple[str, ...], columns: list[str]) -> list[str]:
    return [need for name in x for need in (DERIVED[name][0] if name in DERIVED and name not in columns else (name,))]


def _repeated(row: dict[str, Any], inputs: list[str], value: str, seen: dict[tuple, dict[str, Any]]) -> bool:
    """Whether an equal row came before.

    Raises:
      UserError: a row of the same run, task, pooling, metric and inputs came before, with another value.
    """
    if all(column in row for column in KEY):
        key = tuple(row[column] for column in (*KEY, *inputs))
    else:
        key = tuple(str(cell) for cell in row.values())
    if key not in seen:
        seen[key] = row
        return False
    before = seen[key]
    if str(before[value]) != str(row[value]):
        raise UserError(
            f"{row_name(row)} is in the table twice, with {value} {before[value]} and {row[value]}: remove one"
        )
    return True


def _point(
    row: dict[str, Any], x: tuple[str, ...], y: str, columns: list[str], known: dict[str, Metric]
) -> tuple[list[float], float]:
    """(x [d], y) of a usable row; raises _Unusable with the reason for any other."""
    if str(row.get("status", "done")) != "done":
        raise _Unusable(f"status is {row['status'] or 'missing'}, not done")
    if number(row.get("steps")) == 0:
        raise _Unusable("untrained encoder (no steps): a baseline, not a point of a curve")
    cells = {name: _finite(row, name) for name in _needed(x, columns)}
    for name, cell in cells.items():
        if cell <= 0:
            hint = " (0 stands for every pair of the data set: name the rung by its count)" if name == "pairs" else ""
            raise _Unusable(f"{name} is not positive{hint}")
    inputs = [cells[name] if name in cells else DERIVED[name][1](*(cells[c] for c in DERIVED[name][0])) for name in x]
    error = _error(row, known) if is_derived(y, columns) else _finite(row, y)
    if error <= 0:
        raise _Unusable(f"{y} is not positive")
    return inputs, error


def _error(row: dict[str, Any], known: dict[str, Metric]) -> float:
    value, name = _finite(row, _VALUE), str(row.get("metric", _VALUE))
    metric = known.get(name)
    if metric is None:
        unknown = f"metric {name!r} is not known" if "metric" in row else "no column says which metric a value is of"
        raise _Unusable(
            f"{unknown}: state what a perfect result has, --best {name}=NUMBER, or name a column of errors, --y"
        )
    if not metric.low <= value <= metric.high:
        raise _Unusable(f"value outside {metric.low:g} to {metric.high:g}: {metric.formula} is not an error")
    return metric.error(value)


def _finite(row: dict[str, Any], column: str) -> float:
    value = number(row[column])
    if value is None:
        raise _Unusable(f"{column} is missing or not a number")
    if not math.isfinite(value):
        raise _Unusable(f"{column} is not finite")
    return value


def _refuse_mixture(key: dict[str, str], rows: list[dict[str, Any]], apart: set[str]) -> None:
    for column in GROUP:  # rows that differ in one of these belong to different curves
        if column in rows[0] and column not in apart:
            values = sorted({str(row[column]) for row in rows})
            if len(values) > 1:
                where = ", ".join(f"{k}={v}" for k, v in key.items()) or "the table"
                raise UserError(f"{where} mixes {column} {' and '.join(values[:3])}: add {column} to --group")
