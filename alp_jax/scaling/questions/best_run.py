"""Which run of a sweep has the best encoder, by a mean over results that all runs have, and which come next."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from alp_jax.core import storage
from alp_jax.core.errors import UserError
from alp_jax.core.metrics import METRICS, Metric, foreign
from alp_jax.core.run_files import LEDGER
from alp_jax.scaling.sweep.folder import local_sweep, run_home
from alp_jax.scaling.sweep.ledger import Ledger

NEXT = 2  # runs that are named after the best
SHOWN = 3  # reasons, or metrics, that an error names
_SAME = 1e-6  # chance levels that differ by more come from different test clips

ResultKey = tuple[str, str, str]  # task, pooling and metric


@dataclasses.dataclass(frozen=True)
class BestRun:
    """The order of a sweep's trained runs.

    Attributes:
      ranking: (run, score), the best first; runs of equal score by name.
      metrics: titles of the headline metrics that were averaged.
      results: what was averaged, which every ranked run has: ``task-pooling``, with the metric's title where a task has
        several.
      lacking: headline results that were not averaged, named likewise -> why.
      left_out: trained runs that are not ranked -> why.
    """

    ranking: list[tuple[str, float]]
    metrics: list[str]
    results: list[str]
    lacking: dict[str, str]
    left_out: dict[str, str]

    @property
    def run(self) -> str:
        """The name of the best run."""
        return self.ranking[0][0]

    @property
    def score(self) -> float:
        """The score of the best run."""
        return self.ranking[0][1]

    @property
    def rule(self) -> str:
        """How it was chosen, in a line."""
        averaged = f"the {len(self.results)} headline results" if len(self.results) > 1 else "the one headline result"
        runs = f"all {len(self.ranking)} runs have" if len(self.ranking) > 1 else "the only run has"
        return f"mean of {averaged} that {runs} ({', '.join(self.metrics)}), each 0 at chance and 1 at its best value"

    def lines(self) -> list[str]:
        """Lines to print: the order, the rule, the results averaged, and what was left out."""
        (run, score), *others = self.ranking[: NEXT + 1]
        runners_up = "".join(f", then {name} {value:.4f}" for name, value in others)
        lines = [
            f"best run: {run} {score:.4f}{runners_up}",
            f"score: {self.rule}",
            f"results: {', '.join(self.results)}",
        ]
        lines += [f"not compared on {result}: {why}" for result, why in self.lacking.items()]
        return lines + [f"not ranked: {name}: {why}" for name, why in self.left_out.items()]

    def to_dict(self) -> dict[str, Any]:
        """What an export keeps of the choice."""
        runners_up = [{"run": run, "score": score} for run, score in self.ranking[1 : NEXT + 1]]
        own = {
            "score": self.score,
            "rule": self.rule,
            "results": self.results,
            "next": runners_up,
            "runs": len(self.ranking),
        }
        return own | {"lacking": self.lacking, "left_out": self.left_out}


def best_run(sweep: storage.Location, best: Mapping[str, float] | None = None) -> tuple[storage.Location, BestRun]:
    """The path or URL of the best trained run in the ledger of a sweep, and how it was chosen.

    Args:
      best: metrics of other tools that count as well, with the value of a perfect result.

    Raises:
      UserError: there is no ledger; also as ``rank_runs``.
    """
    with local_sweep(sweep) as folder:
        if not (folder / LEDGER).is_file():
            raise UserError(f"--sweep {sweep} has no ledger.jsonl: is it a sweep folder?")
        try:
            order = rank_runs(Ledger(folder / LEDGER).table(), best)
        except UserError as error:
            raise UserError(f"--sweep {sweep}: {error}") from None
        return run_home(folder, order.run), order


def rank_runs(rows: list[dict[str, Any]], best: Mapping[str, float] | None = None) -> BestRun:
    """Orders the trained runs of a ledger's table by the mean over the headline results that all of them have.

    A result counts by its headline metric, as a share of the way from chance to the best value, so that recall among
    many clips, accuracy among few classes and metrics for which lower is better weigh alike. Runs without any usable
    result are left out by name; a result that one of the remaining runs lacks is averaged for none of them.

    Raises:
      UserError: no trained run has results, no result is common to all of them (with the reason), or ``best`` names a
        metric that is known already or that no result has.
    """
    counted = _counted(rows, best or {})
    trained = sorted({row["run"] for row in rows if (row["steps"] or 0) > 0})
    if not trained:
        raise UserError("no trained runs with results to compare")
    rows = [row for row in rows if row["run"] in trained and row["value"] is not None]
    headline = [row for row in rows if row["metric"] in counted]
    if not headline:
        raise UserError(_no_headline(rows, trained))
    named = _names({_result(row) for row in headline}, counted)
    lacking = _incomparable(headline, counted)
    values: dict[str, dict[ResultKey, float]] = {run: {} for run in trained}
    for row in headline:
        if (result := _result(row)) not in lacking:
            values[row["run"]][result] = counted[row["metric"]].normalised(row["value"], row["chance"])
    left_out = {run: "it has no result to compare" for run, own in values.items() if not own}
    values = {run: own for run, own in values.items() if own}
    apart = _listed({named[result]: why for result, why in lacking.items()})
    if not values:
        raise UserError(f"nothing to compare the trained runs by: {apart}")
    every = sorted(set().union(*values.values()))
    shared = [result for result in every if all(result in own for own in values.values())]
    for result in every:
        without = [run for run, own in values.items() if result not in own]
        if without:
            more = f" and {len(without) - 1} more" if len(without) > 1 else ""
            lacking[result] = f"{without[0]}{more} of {len(values)} runs lack it"
    if not shared:
        least = min(values, key=lambda run: len(values[run]))
        beside = f"; not compared on {apart}" if apart else ""
        raise UserError(
            f"not one comparable result exists for all {len(values)} trained runs; {least} has the fewest: evaluate it "
            f"with 'alp eval --run', or leave it out of the sweep{beside}"
        )
    scores = {run: fmean(own[result] for result in shared) for run, own in values.items()}
    used = {metric for *_, metric in shared}
    return BestRun(
        sorted(scores.items(), key=lambda item: (-item[1], item[0])),
        [metric.title for name, metric in counted.items() if name in used],
        [named[result] for result in shared],
        {named[result]: why for result, why in sorted(lacking.items())},
        left_out,
    )


def _result(row: Mapping[str, Any]) -> ResultKey:
    return row["task"], row["pooling"], row["metric"]


def _names(results: set[ResultKey], counted: Mapping[str, Metric]) -> dict[ResultKey, str]:
    """``task-pooling`` of each, with the title of its metric where there are several."""
    several = Counter(result[:2] for result in results)
    return {
        (task, pooling, metric): f"{task}-{pooling}"
        + (f" {counted[metric].title}" if several[task, pooling] > 1 else "")
        for task, pooling, metric in results
    }


def _listed(reasons: Mapping[str, str]) -> str:
    """Some of what cannot be compared and why, in a line."""
    shown = [f"{name}: {why}" for name, why in sorted(reasons.items())]
    return "; ".join(shown[:SHOWN]) + (f"; and {len(shown) - SHOWN} more" if len(shown) > SHOWN else "")


def _no_headline(rows: list[dict[str, Any]], trained: list[str]) -> str:
    """Why trained runs cannot be ranked when none of their rows is of a metric that counts."""
    if not rows:
        return f"no trained runs with results to compare: none of {len(trained)} has a value"
    names = sorted({row["metric"] for row in rows})
    others = [name for name in names if name not in METRICS]
    stated = f"; state the best value of another tool's metric: --best {others[0]}=VALUE" if others else ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"the trained runs have no headline metric, only {', '.join(names[:SHOWN])}{more}{stated}"


def _counted(rows: list[dict[str, Any]], best: Mapping[str, float]) -> dict[str, Metric]:
    """The metrics that count: our headline metrics, and those whose best value a user states."""
    counted = {name: metric for name, metric in METRICS.items() if metric.headline}
    for name, value in best.items():
        own = [row["value"] for row in rows if row["metric"] == name and row["value"] is not None]
        if not own:
            raise UserError(f"--best {name}={value:g}: no result has such a metric")
        counted[name] = foreign(name, value, own)
    return counted


def _incomparable(rows: list[dict[str, Any]], counted: Mapping[str, Metric]) -> dict[ResultKey, str]:
    """Results that cannot rank runs -> why: their chance level is unknown, or differs between runs."""
    chances: dict[ResultKey, list[float]] = {}
    reasons: dict[ResultKey, str] = {}
    for row in rows:
        result, metric = _result(row), counted[row["metric"]]
        chance = metric.chance if row["chance"] is None else row["chance"]
        if chance is None:
            reasons.setdefault(result, f"what guessing reaches is not known (run {row['run']})")
        elif metric.normalised(row["value"], chance) is None:
            reasons.setdefault(result, f"guessing reaches {chance:.4g}, and {metric.best:.4g} is the best there is")
        else:
            chances.setdefault(result, []).append(chance)
    for result, own in chances.items():
        if max(own) - min(own) > _SAME:
            reasons[result] = f"runs were tested on different clips: guessing reaches {_apart(min(own), max(own))}"
    return reasons


def _apart(low: float, high: float) -> str:
    """Two numbers with as many digits as it takes to tell them apart."""
    digits = next(d for d in range(4, 18) if d == 17 or f"{low:.{d}g}" != f"{high:.{d}g}")
    return f"{low:.{digits}g} to {high:.{digits}g}"
