"""Which objective, model size and amount of data reach the lowest error for a given amount of computation."""

import dataclasses
from typing import Any

import numpy as np

from alp_jax.core.errors import UserError
from alp_jax.scaling.laws.curves import Curve, make_curves, number
from alp_jax.scaling.laws.fit import fit_law, shortage
from alp_jax.scaling.questions.common import answer_lines, apart, hull, refuse_nothing

_SIZES = 200  # model sizes that are tried, evenly spaced in the logarithm


@dataclasses.dataclass(frozen=True)
class Plan:
    """The best model size and number of samples of one objective for the budget.

    Attributes:
      params, samples, error: model parameters, clips seen, and the error that is expected there.
      interval, params_interval: 95% intervals of ``error`` and of the best size, over replicas of the fit.
      wins: share of replicas in which this objective has the lowest error of all.
    """

    objective: str
    params: float
    params_interval: tuple[float, float]
    samples: float
    error: float
    interval: tuple[float, float]
    wins: float
    warnings: list[str]

    def __str__(self) -> str:
        sizes = f"{self.params:.3g} parameters [{self.params_interval[0]:.3g}, {self.params_interval[1]:.3g}]"
        error = f"error {self.error:.4f} [{self.interval[0]:.4f}, {self.interval[1]:.4f}]"
        return f"{self.objective}: {sizes}, {self.samples:.3g} samples, {error}, lowest in {self.wins:.0%} of replicas"


@dataclasses.dataclass(frozen=True)
class BudgetAnswer:
    """Plans of one task, metric and setting, the lowest error first."""

    group: dict[str, str]
    flops: float
    plans: list[Plan]

    def lines(self) -> list[str]:
        """Lines to print: the group, its plans and their warnings."""
        warnings = [f"{plan.objective}: {warning}" for plan in self.plans for warning in plan.warnings]
        return answer_lines(self.group, self.plans, warnings)


def ask_budget(
    rows: list[dict[str, Any]], flops: float, *, y: str = "error", replicas: int = 200
) -> list[BudgetAnswer]:
    """The best plan of every objective for ``flops`` operations of training, task by task.

    The law is E + A * samples_seen^-alpha + B * params^-beta where an objective was trained at two sizes or more, and
    the power law of samples_seen at its one size. Operations per sample are a power of the parameters, fitted to the
    column ``flops``. Only sizes within the measured range are tried; the budget then decides the samples.

    Raises:
      UserError: as ``make_curves``, or too few runs.
    """
    if not flops > 0:
        raise UserError(f"--flops {flops:g}: a budget must be above 0")
    if rows and "flops" not in rows[0]:
        raise UserError("the table has no column 'flops': what a sample costs is unknown")
    curves, excluded = make_curves(rows, ("samples_seen", "params"), y)
    members: list[tuple[Curve, _Candidates]] = []
    for k, curve in enumerate(curves):
        reason = _lacking(curve)
        if reason:
            excluded.add_curve(curve, f"group with {reason}")
        else:
            members.append((curve, _candidates(curve, flops, replicas, seed=k)))
    answers = [BudgetAnswer(rest, flops, _plans([*own.values()])) for rest, own in apart(members, "objective")]
    refuse_nothing(answers, excluded, "no objective can be fitted")
    return answers


@dataclasses.dataclass(frozen=True)
class _Candidates:
    """Sizes [Z], samples [Z] that the budget buys at each, errors [Z], and those of replicas, each [R,Z]."""

    params: np.ndarray
    samples: np.ndarray
    errors: np.ndarray
    kinds: list[np.ndarray]
    warnings: list[str]


def _law(curve: Curve) -> str:
    return "data_model" if len(np.unique(curve.x[:, 1])) > 1 else "power"


def _lacking(curve: Curve) -> str:
    costs = [number(row["flops"]) for row in curve.rows]
    if not all(cost and np.isfinite(cost) and cost > 0 for cost in costs):
        return "runs whose flops are missing or not positive"
    if _law(curve) == "power":
        return shortage("power", curve.x[:, :1], ("samples_seen",))
    return shortage("data_model", curve.x, ("samples_seen", "params"))


def _candidates(curve: Curve, flops: float, replicas: int, seed: int) -> _Candidates:
    samples, params = curve.x.T
    per_sample = np.log([number(row["flops"]) for row in curve.rows]) - np.log(samples)
    warnings = []
    if _law(curve) == "power":
        sizes = params[:1]
        cost = np.exp(per_sample.mean())
        bought = flops / cost * np.ones(1)
        inputs = bought[:, None]
        fit = fit_law("power", samples, curve.y, replicas=replicas, seed=seed, seeds=curve.seeds)
        warnings.append("one model size: the best size is unknown")
    else:
        sizes = np.geomspace(params.min(), params.max(), _SIZES)
        slope, start = np.polyfit(np.log(params), per_sample, 1)
        bought = flops / np.exp(start + slope * np.log(sizes))
        inputs = np.stack([bought, sizes], 1)
        fit = fit_law("data_model", curve.x, curve.y, replicas=replicas, seed=seed, seeds=curve.seeds)
    return _Candidates(sizes, bought, fit.predict(inputs), fit.replicas(inputs), warnings + fit.warnings)


def _plans(members: list[tuple[Curve, _Candidates]]) -> list[Plan]:
    shared = min(len(sizes.kinds) for _, sizes in members)  # a fit of unknown noise has one kind of replicas only
    lowest = [[sizes.kinds[k].min(1) for _, sizes in members] for k in range(shared)]  # [kind][objective][R]
    winners = [np.argmin(np.stack(kind), 0) for kind in lowest]
    plans = []
    for i, (curve, sizes) in enumerate(members):
        best = int(sizes.errors.argmin())
        params, samples = float(sizes.params[best]), float(sizes.samples[best])
        warnings = list(sizes.warnings)
        seen = curve.x[:, 0]
        if len(sizes.params) > 1 and best in (0, len(sizes.params) - 1):
            end = "smallest" if best == 0 else "largest"
            warnings.append(f"the best size is the {end} that was run: others may be better")
        if not seen.min() <= samples <= seen.max():
            warnings.append(f"{samples:.3g} samples lie outside the {seen.min():.3g} to {seen.max():.3g} that were run")
        plans.append(
            Plan(
                curve.group.get("objective", ""),
                params,
                hull([sizes.params[kind.argmin(1)] for kind in sizes.kinds], params),
                samples,
                float(sizes.errors[best]),
                hull([kind.min(1) for kind in sizes.kinds], float(sizes.errors[best])),
                float(np.mean([winner == i for winner in winners])),
                warnings,
            )
        )
    return sorted(plans, key=lambda plan: plan.error)
