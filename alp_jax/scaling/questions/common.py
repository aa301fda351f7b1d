"""What several questions need: curves to compare with each other, intervals that may be open, and refusals."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from alp_jax.core.errors import UserError
from alp_jax.core.names import nearest
from alp_jax.scaling.laws.curves import Curve, Excluded
from alp_jax.scaling.laws.fit import LEVEL


def apart(things: Iterable[tuple], column: str) -> list[tuple[dict[str, str], dict[str, tuple]]]:
    """Tuples that begin with a curve, by its group without ``column``: (that group, value of the column -> tuple)."""
    by_rest: dict[tuple, dict[str, tuple]] = {}
    for thing in things:
        group = thing[0].group
        rest = tuple((key, value) for key, value in group.items() if key != column)
        by_rest.setdefault(rest, {})[group.get(column, "")] = thing
    return [(dict(rest), own) for rest, own in by_rest.items()]


def facing(curves: list[Curve], column: str, a: str, b: str) -> list[tuple[dict[str, str], Curve, Curve]]:
    """Curves that differ in ``column`` alone, ``a`` first: (what they share, curve of a, curve of b).

    Raises:
      UserError: no such column or value, or the two have nothing in common.
    """
    if not curves or column not in curves[0].group:
        known = list(curves[0].group) if curves else []
        raise UserError(f"curves are not told apart by {column!r}{nearest(column, known)}")
    values = {curve.group[column] for curve in curves}
    for value in (a, b):
        if value not in values:
            raise UserError(f"no usable run has {column} {value!r}{nearest(value, values)}")
    sides = apart(((curve,) for curve in curves), column)
    pairs = [(rest, *own[a], *own[b]) for rest, own in sides if a in own and b in own]
    if not pairs:
        raise UserError(f"no combination of task, metric and setting has both {a} and {b}: nothing to compare")
    return pairs


def answer_lines(group: dict[str, str], findings: Iterable[Any], warnings: Iterable[str]) -> list[str]:
    """An answer as lines to print: its group, what was found in it, and what it cannot tell."""
    return [" ".join(group.values()), *(f"  {one}" for one in findings), *(f"  warning: {one}" for one in warnings)]


def percentiles(values: np.ndarray) -> tuple[float, float]:
    """The central 95% of values, some of which may be infinite, hence without interpolation between them."""
    tail = 50 * (1 - LEVEL)
    return tuple(float(v) for v in np.percentile(values, [tail, 100 - tail], method="inverted_cdf"))


def hull(kinds: list[np.ndarray], estimate: float) -> tuple[float, float]:
    """The smallest interval that holds those of all kinds of replicas, and the estimate."""
    intervals = [percentiles(kind) for kind in kinds]
    return min(estimate, *(low for low, _ in intervals)), max(estimate, *(high for _, high in intervals))


def open_number(value: float) -> float | None:
    """``value`` for JSON, with None in place of infinity: beyond every number that was looked at."""
    return value if math.isfinite(value) else None


def refuse_nothing(answers: list[Any], excluded: Excluded, refusal: str) -> None:
    """Raises UserError where no answer was found, with the reasons why rows were left out."""
    if not answers:
        raise UserError(f"{refusal}: {excluded}" if str(excluded) else refusal)
