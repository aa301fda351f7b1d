"""Where one objective overtakes another, with an interval, or that it does not up to a given number of pairs."""

import dataclasses
from typing import Any

import numpy as np

from alp_jax.scaling.laws.curves import Curve, make_curves
from alp_jax.scaling.laws.fit import Fit, fit_law, shortage
from alp_jax.scaling.questions.common import answer_lines, facing, hull, open_number, refuse_nothing

LAW = "power"  # fitted to both sides
_POINTS_PER_DECADE = 60


@dataclasses.dataclass(frozen=True)
class Crossover:
    """The first input in [lowest input, ``limit``] at which two laws predict the same error.

    Attributes:
      group: what both curves share. ahead: the one with the smaller error at the lowest input.
      at: that input; None if there is none.
      interval: (low, high) at 95% over replicas of both fits; None stands for beyond ``limit``.
      probability: share of replicas with a crossing, the smaller over the kinds of replicas.
      limit, measured: the largest input looked at, and the largest with runs of both.
    """

    group: dict[str, str]
    a: str
    b: str
    ahead: str
    at: float | None
    interval: tuple[float | None, float | None]
    probability: float
    limit: float
    measured: float
    warnings: list[str]

    def lines(self) -> list[str]:
        """Lines to print: the group, the crossing and its warnings."""
        return answer_lines(self.group, [self], self.warnings)

    def __str__(self) -> str:
        low, high = (f"10^{np.log10(v):.2f}" if v else f"beyond 10^{np.log10(self.limit):.3g}" for v in self.interval)
        follower = self.b if self.ahead == self.a else self.a
        if self.at is None:
            head = f"none within 10^{np.log10(self.limit):.3g} pairs, {self.ahead} stays ahead"
        else:
            head = f"{follower} overtakes {self.ahead} at 10^{np.log10(self.at):.2f} pairs"
        return f"{head} [{low}, {high}]; a crossing in {self.probability:.0%} of replicas"


def crossover(
    group: dict[str, str], a: tuple[str, Curve, Fit], b: tuple[str, Curve, Fit], limit: float, beyond: str
) -> Crossover:
    """The crossover of two named curves with their fits, looked for up to ``limit`` or the largest input of both runs.

    ``beyond`` is what a warning of extrapolation calls such an input: a rung, for instance.
    """
    (name, curve, fit), (other, other_curve, other_fit) = a, b
    lowest = max(curve.x.min(), other_curve.x.min())
    measured = float(min(curve.x.max(), other_curve.x.max()))
    limit = max(limit, measured)
    at, interval, probability, ahead = _crossing(fit, other_fit, lowest, limit)
    return Crossover(
        group,
        name,
        other,
        ahead=name if ahead else other,
        at=open_number(at),
        interval=tuple(map(open_number, interval)),
        probability=probability,
        limit=limit,
        measured=measured,
        warnings=[f"{at / measured:.3g} times beyond the largest {beyond}"] if measured < at < np.inf else [],
    )


def _crossing(a: Fit, b: Fit, lowest: float, limit: float) -> tuple[float, tuple[float, float], float, bool]:
    """(input, interval, probability, whether a is ahead at ``lowest``); infinite where nothing crosses by ``limit``."""
    count = 2 + int(_POINTS_PER_DECADE * np.log10(limit / lowest))
    x = np.geomspace(lowest, limit, count)
    gap = np.log(a.predict(x)) - np.log(b.predict(x))
    kinds = [
        _first_crossing(np.log(of_a) - np.log(of_b), x)
        for of_a, of_b in zip(a.replicas(x), b.replicas(x), strict=False)  # a fit of unknown noise has one kind only
    ]
    at = float(_first_crossing(gap[None], x)[0])
    return at, hull(kinds, at), float(min(np.isfinite(kind).mean() for kind in kinds)), bool(gap[0] < 0)


def _first_crossing(gap_Rm: np.ndarray, x_m: np.ndarray) -> np.ndarray:
    """Where each row first changes sign [R], interpolated linearly in log x; infinite where it never does."""
    changes = np.signbit(gap_Rm[:, 1:]) != np.signbit(gap_Rm[:, :-1])
    first = changes.argmax(1)  # 0 where nothing changes; those rows become infinite at the end
    rows = np.arange(len(gap_Rm))
    before, after = gap_Rm[rows, first], gap_Rm[rows, first + 1]
    step = np.where(changes.any(1), before / np.where(before == after, 1.0, before - after), 0.0)
    log_x = np.log(x_m)
    crossing = np.exp(log_x[first] + step * (log_x[first + 1] - log_x[first]))
    return np.where(changes.any(1), crossing, np.inf)


def ask_crossover(
    rows: list[dict[str, Any]],
    a: str,
    b: str,
    *,
    column: str = "objective",
    x: str = "pairs",
    y: str = "error",
    limit: float = 1e9,
    replicas: int = 200,
) -> list[Crossover]:
    """The crossover of ``a`` and ``b`` in every task, metric and setting that both have.

    Args:
      column: of which ``a`` and ``b`` are values. limit: the largest input that is looked at.

    Raises:
      UserError: as ``make_curves``; nothing to compare or too few rungs.
    """
    curves, excluded = make_curves(rows, (x,), y)
    crossovers = []
    for group, of_a, of_b in facing(curves, column, a, b):
        lacking = [(curve, reason) for curve in (of_a, of_b) if (reason := shortage(LAW, curve.x, (x,)))]
        for curve, reason in lacking:
            excluded.add_curve(curve, f"group with {reason}")
        if lacking:
            continue
        # different bootstrap seeds: with the same one the noise of both curves would move together
        sides = [
            (name, curve, fit_law(LAW, curve.x, curve.y, replicas=replicas, seed=k, seeds=curve.seeds))
            for k, (name, curve) in enumerate(((a, of_a), (b, of_b)))
        ]
        crossing = crossover(group, *sides, limit, "measured input: an extrapolation")
        own = [f"{name}: {warning}" for name, _, fit in sides for warning in fit.warnings]
        crossovers.append(dataclasses.replace(crossing, warnings=own + crossing.warnings))
    refuse_nothing(crossovers, excluded, "no pair of curves can be fitted")
    return crossovers
