"""Every crossover of two objectives that a sweep's fits allow, for the report."""

import dataclasses
import itertools
import pathlib

from alp_jax.core.metrics import is_headline
from alp_jax.scaling import glossary
from alp_jax.scaling.laws.curves import Curve
from alp_jax.scaling.laws.fit import Fit
from alp_jax.scaling.questions.common import apart
from alp_jax.scaling.questions.crossover import Crossover, crossover

LIMIT = 1e9  # the most pairs that are looked at


@dataclasses.dataclass(frozen=True)
class SweepCrossover(Crossover):
    """A crossover that knows the ``lowest`` pairs it was looked for from."""

    lowest: float


def find_crossings(fitted: list[tuple[Curve, Fit]]) -> dict[tuple[str, str], list[SweepCrossover]]:
    """(a, b) in alphabetical order -> where their headline curves cross, in everything that both were measured in."""
    crossovers: dict[tuple[str, str], list[SweepCrossover]] = {}
    for rest, own in apart((pair for pair in fitted if is_headline(pair[0].group["metric"])), "objective"):
        for a, b in itertools.combinations(sorted(own), 2):
            crossing = crossover(rest, (a, *own[a]), (b, *own[b]), LIMIT, "rung")
            lowest = float(max(own[name][0].x.min() for name in (a, b)))
            crossovers.setdefault((a, b), []).append(SweepCrossover(**vars(crossing), lowest=lowest))
    return dict(sorted(crossovers.items()))


def settings_of(one: SweepCrossover, several: set[str]) -> str:
    """What tells a crossover from others of its task: its pooling, and model, start or variant if in ``several``."""
    parts = [glossary.pooling_title(one.group["pooling"]).removesuffix(" pooling")]
    if "model" in several:
        parts.append(one.group["model"])
    if "init" in several:
        parts.append(pathlib.PurePath(one.group["init"]).name)
    if one.group.get("variant"):
        parts.append(one.group["variant"])
    return ", ".join(parts)
