"""Which run to make next: the affordable one after which the answer would be known most precisely.

For every candidate the experiment is simulated: the existing runs get new noise around the fitted curve, the
candidate's run is added with noise of its own, and the law is fitted again. The variance of the answer over such
replicas, compared with the variance without the candidate, is what the run is worth.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from alp_jax.core.errors import UserError
from alp_jax.scaling.laws.curves import Curve, make_curves, number
from alp_jax.scaling.laws.fit import shortage
from alp_jax.scaling.laws.forms import LAWS
from alp_jax.scaling.laws.minimise import predict, solve
from alp_jax.scaling.questions.common import answer_lines, refuse_nothing

LAW = LAWS["power"]
_SHOWN = 10  # candidates that are printed
_BEYOND = (1.0, 2.0, 4.0, 10.0)  # candidates past the top rung, in multiples of it


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A run that could be made.

    Attributes:
      x: its input. hours: what it is expected to take, in device-hours.
      left: variance of the answer with this run, divided by the variance without it; at 1 it does not help.
      again: whether runs at this input exist already, so that the candidate is another seed.
    """

    group: dict[str, str]
    x: float
    hours: float
    left: float
    again: bool

    def __str__(self) -> str:
        kind = "another seed at" if self.again else "a new rung at"
        worth = f"{self.hours:.3g} device-hours, leaves {self.left:.0%} of the variance"
        return f"{' '.join(self.group.values())}: {kind} {self.x:.0f}, {worth}"


@dataclasses.dataclass(frozen=True)
class NextRun:
    """Affordable candidates, the most useful first, and how many cost more than the budget."""

    asked: str
    budget_device_hours: float
    candidates: list[Candidate]
    too_expensive: int
    warnings: list[str]

    def lines(self) -> list[str]:
        """Lines to print: what was asked, the best candidates and the warnings."""
        shown = [*self.candidates[:_SHOWN], f"{self.too_expensive} candidates cost more than the budget"]
        return answer_lines({"asked": f"asked: {self.asked}"}, shown, self.warnings)


def ask_next_run(
    rows: list[dict[str, Any]],
    budget_device_hours: float,
    *,
    ask: str = "alpha",
    x: str = "pairs",
    y: str = "error",
    devices: int = 1,
    replicas: int = 100,
    seed: int = 0,
) -> list[NextRun]:
    """The affordable runs of every curve, ordered by how much they reduce the variance of the quantity asked for.

    Args:
      ask: a parameter of the law, or an input as a number, to ask for the logarithm of the error there.
      devices: that each run in the table held; device-hours are ``wall_seconds`` times devices.

    Raises:
      UserError: as ``make_curves``; nothing affordable, no ``wall_seconds``, or noise that cannot be estimated.
    """
    if not budget_device_hours > 0:
        raise UserError(f"--budget_device_hours {budget_device_hours:g}: a budget must be above 0")
    if rows and "wall_seconds" not in rows[0]:
        raise UserError("the table has no column 'wall_seconds': what a run costs is unknown")
    answer = _quantity(ask)
    curves, excluded = make_curves(rows, (x,), y)
    candidates, warnings, expensive = [], [], 0
    for k, curve in enumerate(curves):
        cost = _cost(curve, devices)
        reason = shortage("power", curve.x, (x,)) or ("runs without wall_seconds" if cost is None else "")
        if not reason and len(curve.y) <= len(LAW.params):
            reason = "no more runs than parameters: its noise is unknown"
        if reason:
            excluded.add_curve(curve, f"group with {reason}")
            continue
        known = np.unique(curve.x[:, 0])
        between, beyond = np.sqrt(known[1:] * known[:-1]), known[-1] * np.array(_BEYOND)
        inputs = np.unique(np.round(np.concatenate([known, between, beyond]), 6))
        hours = cost(inputs)
        cheap = hours <= budget_device_hours
        expensive += int((~cheap).sum())
        left = _variances(curve, inputs[cheap], answer, replicas, [seed, k])
        candidates += [
            Candidate(curve.group, float(p), float(h), float(share), bool(np.isin(p, known)))
            for p, h, share in zip(inputs[cheap], hours[cheap], left, strict=True)
        ]
    if expensive and not candidates:
        raise UserError(f"--budget_device_hours {budget_device_hours:g} pays for none of the {expensive} candidates")
    refuse_nothing(candidates, excluded, "no curve can be fitted")
    candidates.sort(key=lambda candidate: (candidate.left, candidate.hours))
    if candidates[0].left > 0.95:
        warnings.append("no affordable run reduces the variance by more than 5%")
    return [NextRun(ask, budget_device_hours, candidates, expensive, warnings)]


def _quantity(ask: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """(internal parameters [R,P], centre [1]) -> the quantity that is asked for [R]."""
    if ask in LAW.params:
        return lambda p, center: LAW.natural(p, center)[ask]
    at = number(ask)
    if at is None or not (np.isfinite(at) and at > 0):
        raise UserError(f"--ask {ask}: expected {', '.join(LAW.params)} or an input above 0 at which to know the error")
    return lambda p, center: predict(LAW, p, np.full((len(p), 1, 1), np.log(at)) - center)[0][:, 0]


def _cost(curve: Curve, devices: int) -> Callable[[np.ndarray], np.ndarray] | None:
    """Input -> device-hours: a power law through the runs that say what they took; None where it is unknown."""
    seconds = np.array([number(row["wall_seconds"]) or np.nan for row in curve.rows])
    known = np.isfinite(seconds) & (seconds > 0)
    if len(np.unique(curve.x[known, 0])) < 2:
        return None
    slope, start = np.polyfit(np.log(curve.x[known, 0]), np.log(seconds[known]), 1)
    slope = max(0.0, slope)  # a longer run is never cheaper
    if slope == 0.0:
        start = np.log(seconds[known]).mean()
    return lambda inputs: np.exp(start + slope * np.log(inputs)) * devices / 3600


def _variances(
    curve: Curve,
    candidates: np.ndarray,
    answer: Callable[[np.ndarray, np.ndarray], np.ndarray],
    replicas: int,
    seed: list[int],
) -> np.ndarray:
    """For each of ``candidates``, the answer's variance with a run there, divided by its variance without.

    The square of the mean deviation from the median stands in for the variance: a fitted exponent has heavy tails.
    """
    center = np.log(np.unique(curve.x)).mean(keepdims=True)
    u, v = np.log(curve.x) - center, np.log(curve.y)
    best = solve(LAW, u[None], v[None], None, keep=36)[0]
    middle = predict(LAW, best[None], u[None])[0][0]
    residual_sd = np.sqrt(((v - middle) ** 2).sum() / (len(v) - len(LAW.params)))
    rng = np.random.default_rng(seed)
    # the same draws for every candidate, so that inputs are compared and not luck
    noise = residual_sd * rng.standard_normal((replicas, len(v) + 1))

    def spread(at: float | None) -> float:
        inputs, expected, added = u, middle, noise[:, :-1]
        if at is not None:
            added_u = np.log([[at]]) - center
            inputs, added = np.concatenate([u, added_u]), noise
            expected = np.concatenate([middle, predict(LAW, best[None], added_u[None])[0][0]])
        fitted = solve(LAW, np.broadcast_to(inputs, (replicas, *inputs.shape)), expected + added, best, keep=3)
        answers = answer(fitted, center)
        return np.abs(answers - np.median(answers)).mean() ** 2

    without = spread(None)
    return np.array([spread(at) / without if without > 0 else 1.0 for at in candidates])
