"""What a supervised start is worth in data: how many pairs from scratch reach the same error, rung by rung."""

import dataclasses
from typing import Any

import numpy as np

from alp_jax.scaling.glossary import SCRATCH
from alp_jax.scaling.laws.curves import Curve, make_curves
from alp_jax.scaling.laws.fit import Fit, fit_law, shortage
from alp_jax.scaling.questions.common import answer_lines, facing, hull, open_number, refuse_nothing

LAW = "power"  # fitted to runs from scratch
_POINTS_PER_DECADE = 60
_REACH = 1e4  # equivalents are looked for up to this factor beyond the runs


@dataclasses.dataclass(frozen=True)
class Rung:
    """At ``pairs``, the start reaches the error of ``equivalent`` pairs from scratch.

    Attributes:
      equivalent, interval: None where scratch does not get there within 10^4 times the largest rung.
      ratio: equivalent / pairs.
    """

    pairs: float
    runs: int
    equivalent: float | None
    interval: tuple[float | None, float | None]

    @property
    def ratio(self) -> float | None:
        """How many times its pairs the start is worth; None where that is unknown."""
        return None if self.equivalent is None else self.equivalent / self.pairs

    def __str__(self) -> str:
        show = [f"{v / self.pairs:.3g}" if v else "no amount" for v in (self.equivalent, *self.interval)]
        return f"{self.pairs:.0f} pairs: worth {show[0]} [{show[1]}, {show[2]}] times the data from scratch"


@dataclasses.dataclass(frozen=True)
class Equivalent:
    """All rungs of one task, metric and setting.

    Attributes:
      gain: mean of log(error from scratch / error from the start) per rung, smallest rung first; above 0 it helps.
      fade: change of ``gain`` per tenfold increase in pairs, and its 95% interval; below 0 the start fades. None with
        one rung.
    """

    group: dict[str, str]
    start: str
    rungs: list[Rung]
    gain: list[float]
    fade: float | None
    fade_interval: tuple[float, float] | None
    warnings: list[str]

    def lines(self) -> list[str]:
        """Lines to print: the group, its rungs, how the gain changes, and the warnings."""
        shown: list[Any] = list(self.rungs)
        if self.fade is not None:
            low, high = (f"{100 * end:.2f}" for end in self.fade_interval)
            shown.append(
                f"its gain changes by {100 * self.fade:.2f} [{low}, {high}] percent of the error per tenfold data"
            )
        return answer_lines(self.group, shown, self.warnings)


def ask_equivalent(
    rows: list[dict[str, Any]],
    start: str,
    *,
    x: str = "pairs",
    y: str = "error",
    replicas: int = 200,
) -> list[Equivalent]:
    """The data equivalent of ``start`` (a value of the column ``init``) in everything that scratch was measured in.

    Raises:
      UserError: as ``make_curves``; no start of that name, or scratch has too few rungs.
    """
    curves, excluded = make_curves(rows, (x,), y)
    answers = []
    for group, of_start, of_scratch in facing(curves, "init", start, SCRATCH):
        lacking = shortage(LAW, of_scratch.x, (x,))
        if lacking:
            excluded.add_curve(of_scratch, f"scratch with {lacking}")
            continue
        fit = fit_law(LAW, of_scratch.x, of_scratch.y, replicas=replicas, seeds=of_scratch.seeds)
        answers.append(_equivalent(group, start, of_start, of_scratch, fit))
    refuse_nothing(answers, excluded, "no curve from scratch can be fitted")
    return answers


def _equivalent(group: dict[str, str], start: str, of_start: Curve, of_scratch: Curve, fit: Fit) -> Equivalent:
    n_start, n_scratch = of_start.x[:, 0], of_scratch.x[:, 0]
    lowest, highest = min(n_start.min(), n_scratch.min()) / _REACH, n_scratch.max() * _REACH
    grid = np.geomspace(lowest, highest, int(_POINTS_PER_DECADE * np.log10(highest / lowest)))
    curve, kinds = np.log(fit.predict(grid)), [np.log(kind) for kind in fit.replicas(grid)]
    rung_pairs = np.unique(n_start)
    noise = _noise(of_start, fit)
    rng = np.random.default_rng(0)
    rungs, gains, gain_kinds = [], [], [[] for _ in kinds]
    for n in rung_pairs:
        logs = np.log(of_start.y[n_start == n])
        mean, error = logs.mean(), noise / np.sqrt(len(logs))
        drawn = [mean + error * rng.standard_normal(len(kind)) for kind in kinds]
        reached = float(_reach(curve[None], np.array([mean]), grid)[0])
        interval = hull([_reach(kind, draw, grid) for kind, draw in zip(kinds, drawn, strict=True)], reached)
        rungs.append(Rung(float(n), len(logs), open_number(reached), tuple(map(open_number, interval))))
        gains.append(float(np.log(fit.predict([n])[0]) - mean))
        for k, kind in enumerate(fit.replicas([n])):
            gain_kinds[k].append(np.log(kind[:, 0]) - drawn[k])
    fade, fade_interval, warnings = None, None, list(fit.warnings)
    if len(rung_pairs) > 1:
        decades = np.log10(rung_pairs) - np.log10(rung_pairs).mean()
        slope = decades / (decades**2).sum()
        fade = float(slope @ gains)
        fade_interval = hull([slope @ np.array(kind) for kind in gain_kinds], fade)
    else:
        warnings.append("one rung of the start: whether it fades is unknown")
    beyond = rung_pairs[(rung_pairs < n_scratch.min()) | (rung_pairs > n_scratch.max())]
    if len(beyond):
        warnings.append(f"scratch is extrapolated to {', '.join(f'{n:.0f}' for n in beyond)} pairs")
    return Equivalent(group, start, rungs, gains, fade, fade_interval, warnings)


def _noise(of_start: Curve, fit: Fit) -> float:
    """Standard deviation of a run's log error: within the start's own rungs, or scratch's where those have one run."""
    logs, n = np.log(of_start.y), of_start.x[:, 0]
    within = [logs[n == rung] for rung in np.unique(n)]
    freedom = len(logs) - len(within)
    if freedom >= 2:
        return float(np.sqrt(sum(((v - v.mean()) ** 2).sum() for v in within) / freedom))
    return fit.residual_sd or 0.0


def _reach(curve_Rm: np.ndarray, target_R: np.ndarray, grid_m: np.ndarray) -> np.ndarray:
    """Where each falling curve first reaches its target [R], interpolated linearly in log x.

    The first point of the grid where the curve begins at or below it, infinite where it never gets there.
    """
    low_enough = curve_Rm <= target_R[:, None]
    after = low_enough.argmax(1)  # 0 also where it never is; those rows become infinite at the end
    rows = np.arange(len(curve_Rm))
    before = np.maximum(after - 1, 0)
    high, low = curve_Rm[rows, before], curve_Rm[rows, after]
    share = np.where(high > low, (high - target_R) / np.where(high > low, high - low, 1.0), 0.0).clip(0, 1)
    log_x = np.log(grid_m)
    reached = np.exp(log_x[before] + share * (log_x[after] - log_x[before]))
    return np.where(low_enough.any(1), reached, np.inf)
