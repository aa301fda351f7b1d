"""From a ledger or any CSV to groups that can be fitted, with an account of every row that cannot."""

import csv
import difflib
import math
import pathlib
from collections.abc import Iterable
from typing import Any

from alp_jax.core.errors import UserError
from alp_jax.core.files import write_json, write_text
from alp_jax.scaling.fit import fit_power_law
from alp_jax.scaling.ledger import Ledger

GROUP = ("objective", "init", "model", "task", "pooling", "metric")

MIN_RUNGS = 3


class Excluded:
    """Counts rows left out, by reason, with the first three of each."""

    def __init__(self):
        self._reasons: dict[str, list[str]] = {}

    def add(self, reason: str, example: str) -> None:
        self._reasons.setdefault(reason, []).append(example)

    def to_list(self) -> list[dict[str, Any]]:
        return [{"reason": r, "count": len(names), "examples": names[:3]} for r, names in self._reasons.items()]


def read_table(path: str | pathlib.Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of ``ledger.jsonl`` or of a CSV with a header, and the problems met on the way.

    Raises:
      UserError: no such file, no header, a row with too many cells, or nothing in it.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f"--ledger {path} does not exist")
    if path.suffix == ".jsonl":
        ledger = Ledger(path)
        rows, problems = ledger.table(), ledger.problems
    elif path.suffix == ".csv":
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows, problems = list(csv.DictReader(file)), []
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"--ledger {path} is no CSV text: {error}") from None
        for number, row in enumerate(rows, 2):
            if None in row or None in row.values():
                raise UserError(f"--ledger {path} line {number} has another number of cells than the header")
    else:
        raise UserError(f"--ledger {path}: expected a .jsonl ledger or a .csv table")
    if not rows:
        raise UserError(f"--ledger {path} has no rows" + (f" ({problems[0]})" if problems else ""))
    return rows, problems


def fit_table(
    rows: list[dict[str, Any]],
    *,
    x: str = "pairs",
    y: str = "error",
    group: Iterable[str] | None = None,
    replicas: int = 200,
    seed: int = 0,
) -> dict[str, Any]:
    """Fits every group of ``rows``.

    Args:
      x: column of the scale. y: column of the error; ``error`` stands for 1 - ``value`` where no such column exists.
      group: columns that tell curves apart; None takes those of the ledger that the table has.

    Returns:
      ``settings``, ``fits`` (``group`` and the fields of ``Fit``), ``excluded`` (reason, count, examples).

    Raises:
      UserError: a column does not exist (the nearest is named), a group mixes different metrics, tasks, models or
        objectives, or nothing can be fitted.
    """
    columns = list(rows[0])
    group = tuple(group) if group is not None else tuple(c for c in GROUP if c in columns)
    derived = y == "error" and "error" not in columns and "value" in columns
    for name in (x, "value" if derived else y, *group):
        if name not in columns:
            close = difflib.get_close_matches(name, columns, n=1, cutoff=0.0)
            raise UserError(f"the table has no column {name!r} (nearest: {close[0]!r}; it has {', '.join(columns)})")
    excluded, groups = Excluded(), {}
    seen = set()
    for row in rows:
        point = _point(row, x, y, derived, excluded, seen)
        if point is not None:
            groups.setdefault(tuple(str(row[c]) for c in group), []).append((*point, row))
    fits = []
    for key, points in sorted(groups.items()):
        _refuse_mixture(dict(zip(group, key, strict=True)), [row for *_, row in points], group)
        rungs = len({px for px, _, _ in points})
        if rungs < MIN_RUNGS:
            for *_, row in points:
                excluded.add(f"group with {rungs} rung{'s' * (rungs > 1)} of {x} (3 are needed)", _name(row))
            continue
        fit = fit_power_law([p[0] for p in points], [p[1] for p in points], replicas=replicas, seed=seed)
        fits.append({"group": dict(zip(group, key, strict=True)), **fit.to_dict()})
    if not fits:
        reasons = "; ".join(f"{e['count']} rows: {e['reason']}" for e in excluded.to_list())
        raise UserError(f"nothing can be fitted: {reasons}")
    settings = {"x": x, "y": "1 - value" if derived else y, "group": list(group), "replicas": replicas, "seed": seed}
    settings |= {
        "law": "y = E + A * x^-alpha",
        "loss": "sum of Huber(1e-3) + 5e-4 * square over residuals of log y",
        "level": 0.95,
    }
    settings |= {"interval": "envelope of case (within rung) and parametric (log-normal) bootstrap percentiles"}
    return {"settings": settings, "fits": fits, "excluded": excluded.to_list()}


def write_fits(result: dict[str, Any], out: str | pathlib.Path) -> list[pathlib.Path]:
    """Writes ``fits.json`` (everything) and ``fits.csv`` (a line per curve) into ``out``."""
    out = pathlib.Path(out)
    write_json(out / "fits.json", result)
    group = result["settings"]["group"]
    header = [*group, "E", "E_low", "E_high", "A", "alpha", "alpha_low", "alpha_high"]
    header += ["residual_sd", "runs", "rungs", "warnings"]
    lines = [",".join(header)]
    for fit in result["fits"]:
        row = [fit["group"][column] for column in group]
        row += [fit["E"], *fit["interval"]["E"], fit["A"], fit["alpha"], *fit["interval"]["alpha"]]
        row += [fit["residual_sd"], fit["runs"], fit["rungs"], "; ".join(fit["warnings"])]
        lines.append(",".join(_cell(value) for value in row))
    write_text(out / "fits.csv", "\n".join(lines) + "\n")
    return [out / "fits.json", out / "fits.csv"]


def _point(row: dict[str, Any], x: str, y: str, derived: bool, excluded: Excluded, seen: set) -> tuple | None:
    """(x, y) of a usable row; the reason for leaving another one out goes to ``excluded``."""
    identity = tuple(str(value) for value in row.values())
    if identity in seen:
        excluded.add("repeated row", _name(row))
        return None
    seen.add(identity)
    if "steps" in row and _number(row["steps"]) == 0:
        excluded.add("untrained encoder (no steps): a baseline, not a point of a curve", _name(row))
        return None
    value_x, value_y = _number(row[x]), _number(row["value"] if derived else row[y])
    for name, value in ((x, value_x), ("value" if derived else y, value_y)):
        if value is None:
            excluded.add(f"{name} is missing or no number", _name(row))
            return None
        if not math.isfinite(value):
            excluded.add(f"{name} is not finite", _name(row))
            return None
    if value_x <= 0:
        hint = " (0 stands for every pair of the data set: name the rung by its count)" if x == "pairs" else ""
        excluded.add(f"{x} is not positive{hint}", _name(row))
        return None
    if derived and not 0 <= value_y <= 1:
        excluded.add("value outside 0 to 1: 1 - value is no error", _name(row))
        return None
    error = 1 - value_y if derived else value_y
    if error <= 0:
        excluded.add(f"{y} is not positive", _name(row))
        return None
    return value_x, error


def _refuse_mixture(key: dict[str, str], rows: list[dict[str, Any]], group: tuple[str, ...]) -> None:
    for column in GROUP:  # rows that differ in one of these belong to different curves
        if column in rows[0] and column not in group:
            values = sorted({str(row[column]) for row in rows})
            if len(values) > 1:
                where = ", ".join(f"{k}={v}" for k, v in key.items()) or "the table"
                raise UserError(f"{where} mixes {column} {' and '.join(values[:3])}: add {column} to --group")


def _number(cell: Any) -> float | None:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None


def _name(row: dict[str, Any]) -> str:
    known = [str(row[column]) for column in ("run", "task", "pooling", "metric") if column in row]
    return "/".join(known or [str(value) for value in list(row.values())[:4]])


def _cell(value: Any) -> str:
    text = "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n') else text
