"""Every crossover of two objectives that a sweep's fits allow, for the report."""

import dataclasses
import itertools
import pathlib

import numpy as np

from alp_jax.core.metrics import is_headline
from alp_jax.scaling import glossary
from alp_jax.scaling.laws.curves import Curve
from alp_jax.scaling.laws.fit import Fit
from alp_jax.scaling.questions.common import open_number
from alp_jax.scaling.questions.crossover import Crossover, crossover

LIMIT = 1e9  # pairs that are looked at


@dataclasses.dataclass(frozen=True)
class SweepCrossover(Crossover):
    """A crossover that knows the ``lowest`` pairs it was looked for from."""

    lowest: float


def find_crossings(fitted: list[tuple[Curve, Fit]]) -> dict[tuple[str, str], list[SweepCrossover]]:
    """(a, b) -> where their headline curves cross, in everything both were measured in; the larger name last."""
    by_rest: dict[tuple, dict[str, tuple[Curve, Fit]]] = {}
    for curve, fit in fitted:
        if is_headline(curve.group["metric"]):
            rest = tuple((k, v) for k, v in curve.group.items() if k != "objective")
            by_rest.setdefault(rest, {})[curve.group["objective"]] = curve, fit
    crossovers: dict[tuple[str, str], list[SweepCrossover]] = {}
    for rest, own in by_rest.items():
        for a, b in itertools.combinations(sorted(own), 2):
            crossovers.setdefault((a, b), []).append(_crossover(dict(rest), (a, *own[a]), (b, *own[b])))
    return dict(sorted(crossovers.items()))


def _crossover(group: dict[str, str], a: tuple[str, Curve, Fit], b: tuple[str, Curve, Fit]) -> SweepCrossover:
    lowest = float(max(a[1].x.min(), b[1].x.min()))
    measured = float(min(a[1].x.max(), b[1].x.max()))
    limit = max(LIMIT, measured)
    at, interval, probability, a_ahead = crossover(a[2], b[2], lowest, limit)
    warnings = [f"{at / measured:.3g} times beyond the largest rung"] if measured < at < np.inf else []
    return SweepCrossover(
        group=group,
        a=a[0],
        b=b[0],
        ahead=a[0] if a_ahead else b[0],
        at=open_number(at),
        interval=tuple(map(open_number, interval)),
        probability=probability,
        limit=limit,
        measured=measured,
        warnings=warnings,
        lowest=lowest,
    )


def settings_of(one: SweepCrossover, several: set[str]) -> str:
    """What tells a crossover from others of its task: pooling, and those of model, start, variant in ``several``."""
    parts = [glossary.pooling_title(one.group["pooling"]).removesuffix(" pooling")]
    if "model" in several:
        parts.append(one.group["model"])
    if "init" in several:
        parts.append(pathlib.PurePath(one.group["init"]).name)
    if one.group.get("variant"):
        parts.append(one.group["variant"])
    return ", ".join(parts)
