"""The findings of the paper (arXiv 2511.16757), checked against the fits of a ledger: held, not held or undecided.

Everything is read off fitted curves within the range of the runs; nothing is extrapolated. Gaps are logarithms of
ratios of errors (0.1: about ten percent). Intervals cover the noise of runs and seeds, but not the choice of the test
clips, which all objectives share. Tasks share their runs, so an interval over tasks averages their lower ends and
their upper ends, as if all of them erred together.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from alp_jax.core.metrics import is_headline
from alp_jax.core.run_files import ATTENTION, MEAN
from alp_jax.scaling import glossary
from alp_jax.scaling.laws.curves import Curve
from alp_jax.scaling.laws.fit import Fit
from alp_jax.scaling.questions.common import apart, hull

HELD, NOT_HELD, UNDECIDED = "held", "not held", "undecided"
EFFICIENT = "Contrastive is more data-efficient, above all on discriminative probes"
FASTER = "Captioning improves faster with data on language tasks"
FADES = "A supervised start helps at small scale and fades as data grows"
POOLING = "Attention pooling closes much of the gap between the objectives on probes"


@dataclasses.dataclass(frozen=True)
class Evidence:
    """One number behind a verdict: ``value`` with its 95% interval; above 0 supports the finding."""

    title: str
    value: float
    interval: tuple[float, float]

    @property
    def verdict(self) -> str:
        """Whether the interval lies above 0, below it, or includes it."""
        return HELD if self.interval[0] > 0 else NOT_HELD if self.interval[1] < 0 else UNDECIDED

    def __str__(self) -> str:
        return f"{self.title} {self.value:+.3f} [{self.interval[0]:+.3f}, {self.interval[1]:+.3f}]"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the ledger says about one finding.

    Attributes:
      verdict: held, not held or undecided. because: the numbers that decide it, or what is missing.
      evidence: such numbers task by task.
    """

    finding: str
    verdict: str
    because: str
    evidence: list[Evidence]


FittedCurve = tuple[Curve, Fit]


def paper_verdicts(fitted: list[FittedCurve]) -> list[Verdict]:
    """A verdict for each finding, from power laws over pairs with bootstraps of different seeds.

    Only headline metrics count. A finding whose runs are missing is undecided and says what it lacks.
    """
    fitted = [pair for pair in fitted if is_headline(pair[0].group["metric"])]
    scratch = [pair for pair in fitted if pair[0].group.get("init", glossary.SCRATCH) == glossary.SCRATCH]
    objectives = _facing(scratch, "objective", "contrastive", "captioning")
    return [_efficient(objectives), _faster(objectives), _fades(fitted), _closes(objectives)]


def _efficient(faced: list[tuple[FittedCurve, FittedCurve]]) -> Verdict:
    probes = [_mean_gap(b, a, _title(a)) for a, b in faced if not _language(a)]
    language = [_mean_gap(b, a, _title(a)) for a, b in faced if _language(a)]
    if not probes:
        return _missing(EFFICIENT, "contrastive and captioning from scratch on a probe")
    mean = _over(probes, "log(captioning error / contrastive error) over rungs and probes")
    parts = [str(mean)] + ([str(_over(language, "on language tasks"))] if language else [])
    return Verdict(EFFICIENT, mean.verdict, "; ".join(parts), probes + language)


def _faster(faced: list[tuple[FittedCurve, FittedCurve]]) -> Verdict:
    faced = [pair for pair in faced if _language(pair[0])]
    if not faced:
        return _missing(FASTER, "contrastive and captioning from scratch on a language task that both can do")
    slopes = [_slope(a, b, _title(a)) for a, b in faced]
    mean = _over(slopes, "change of log(contrastive error / captioning error) per tenfold pairs")
    lead = _over([_gap_at(-1, a, b, _title(a)) for a, b in faced], "the same ratio at the largest rung")
    return Verdict(FASTER, mean.verdict, f"{mean}; {lead}", slopes)


def _fades(fitted: list[FittedCurve]) -> Verdict:
    starts = sorted({curve.group.get("init", glossary.SCRATCH) for curve, _ in fitted} - {glossary.SCRATCH})
    faced = [pair for start in starts for pair in _facing(fitted, "init", start, glossary.SCRATCH)]
    if not faced:
        return _missing(FADES, "a start and scratch")
    helps = [_gap_at(0, b, a, f"{_title(a)}: gain at the smallest rung") for a, b in faced]
    fades = [_slope(a, b, f"{_title(a)}: loss of gain per tenfold pairs") for a, b in faced]
    mean_help = _over(helps, "log(error from scratch / error from the start) at the smallest rung")
    mean_fade = _over(fades, "its loss per tenfold pairs")
    return Verdict(FADES, _both(mean_help, mean_fade), f"{mean_help}; {mean_fade}", helps + fades)


def _closes(faced: list[tuple[FittedCurve, FittedCurve]]) -> Verdict:
    gaps, closed = [], []
    by_setting = {tuple(a[0].group.items()): (a, b) for a, b in faced if not _language(a)}
    for a, b in by_setting.values():
        if a[0].group.get("pooling") != MEAN:
            continue
        other = by_setting.get(tuple((a[0].group | {"pooling": ATTENTION}).items()))
        if other is None:
            continue
        mean, attention = _gap(b, a), _gap(other[1], other[0])
        name = glossary.task_title(a[0].group["task"])
        gaps.append(_evidence(mean, lambda gap: gap.mean(-1), f"{name}: gap under mean pooling"))
        shared = np.isin(mean[0], attention[0]), np.isin(attention[0], mean[0])
        both = (
            mean[0][shared[0]],
            mean[1][shared[0]] - attention[1][shared[1]],
            [m[:, shared[0]] - n[:, shared[1]] for m, n in zip(mean[2], attention[2], strict=False)],
        )
        closed.append(_evidence(both, lambda gap: gap.mean(-1), f"{name}: what attention pooling takes off it"))
    if not gaps:
        return _missing(POOLING, "both objectives under mean and attention pooling")
    mean_gap = _over(gaps, "contrastive's lead under mean pooling, log(captioning error / contrastive error)")
    mean_closed = _over(closed, "what attention pooling takes off it")
    return Verdict(POOLING, _both(mean_gap, mean_closed), f"{mean_gap}; {mean_closed}", gaps + closed)


def _both(*evidence: Evidence) -> str:
    verdicts = {one.verdict for one in evidence}
    return HELD if verdicts == {HELD} else NOT_HELD if NOT_HELD in verdicts else UNDECIDED


def _facing(fitted: list[FittedCurve], column: str, a: str, b: str) -> list[tuple[FittedCurve, FittedCurve]]:
    """Curves (of a, of b) that differ in ``column`` alone and were measured over a common range."""
    both = [(own[a], own[b]) for _, own in apart(fitted, column) if a in own and b in own]
    return [(f, g) for f, g in both if max(f[0].x.min(), g[0].x.min()) < min(f[0].x.max(), g[0].x.max())]


def _language(f: FittedCurve) -> bool:
    return glossary.is_language(f[0].group["task"])


def _title(f: FittedCurve) -> str:
    group = f[0].group
    return f"{glossary.task_title(group['task'])}, {glossary.pooling_title(group['pooling'])}"


Gap = tuple[np.ndarray, np.ndarray, list[np.ndarray]]


def _gap(a: FittedCurve, b: FittedCurve) -> Gap:
    """Rungs of both [m], log(error of a / error of b) there [m], and of the replicas [R,m] of each kind."""
    rungs = np.intersect1d(a[0].x, b[0].x)
    if len(rungs) < 2:  # curves that share fewer than two are compared over the range where both were measured
        low, high = max(a[0].x.min(), b[0].x.min()), min(a[0].x.max(), b[0].x.max())
        rungs = np.geomspace(low, high, 3)
    value = np.log(a[1].predict(rungs)) - np.log(b[1].predict(rungs))
    # replica by replica: independent, since curves have bootstrap seeds of their own; as many kinds as both have
    pairs = zip(a[1].replicas(rungs), b[1].replicas(rungs), strict=False)
    return rungs, value, [np.log(of_a) - np.log(of_b) for of_a, of_b in pairs]


def _evidence(gap: Gap, of: Callable[[np.ndarray], Any], title: str) -> Evidence:
    value = float(of(gap[1]))
    return Evidence(title, value, hull([of(kind) for kind in gap[2]], value))


def _mean_gap(a: FittedCurve, b: FittedCurve, title: str) -> Evidence:
    return _evidence(_gap(a, b), lambda gap: gap.mean(-1), title)


def _gap_at(rung: int, a: FittedCurve, b: FittedCurve, title: str) -> Evidence:
    return _evidence(_gap(a, b), lambda gap: gap[..., rung], title)


def _slope(a: FittedCurve, b: FittedCurve, title: str) -> Evidence:
    """Change of log(error of a / error of b) per tenfold increase in pairs, by least squares over the rungs."""
    gap = _gap(a, b)
    decades = np.log10(gap[0]) - np.log10(gap[0]).mean()
    return _evidence(gap, lambda values: values @ decades / (decades**2).sum(), title)


def _over(evidence: Iterable[Evidence], title: str) -> Evidence:
    evidence = list(evidence)
    numbers = np.array([(e.value, *e.interval) for e in evidence]).mean(0).tolist()
    return Evidence(f"{title} ({len(evidence)} curve{'s' * (len(evidence) > 1)})", numbers[0], tuple(numbers[1:]))


def _missing(finding: str, lacking: str) -> Verdict:
    return Verdict(finding, UNDECIDED, f"no curves of 3 rungs of {lacking}", [])
