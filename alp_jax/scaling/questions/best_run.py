"""Which run of a sweep has the best encoder: a mean that every run can be held to, and who comes next."""

import dataclasses
import pathlib
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from alp_jax.core.errors import UserError
from alp_jax.core.metrics import METRICS, Metric, foreign
from alp_jax.scaling.ledger import Ledger

NEXT = 2  # runs that are named behind the best
_SAME = 1e-6  # chances that differ by more are of other test clips

Result = tuple[str, str]  # task and pooling


@dataclasses.dataclass(frozen=True)
class BestRun:
    """The order of a sweep's trained runs.

    Attributes:
      ranking: (run, score), the best first; runs of equal score by name.
      metrics: titles of the headline metrics that were averaged.
      results: ``task-pooling`` of what was averaged: what every ranked run has.
      lacking: ``task-pooling`` of headline results that were not, and why.
      left_out: trained runs that are not ranked, and why.
    """

    ranking: list[tuple[str, float]]
    metrics: list[str]
    results: list[str]
    lacking: dict[str, str]
    left_out: dict[str, str]

    @property
    def run(self) -> str:
        return self.ranking[0][0]

    @property
    def score(self) -> float:
        return self.ranking[0][1]

    @property
    def rule(self) -> str:
        """How it was chosen, in a line."""
        what = f"the {len(self.results)} headline results" if len(self.results) > 1 else "the one headline result"
        runs = f"all {len(self.ranking)} runs have" if len(self.ranking) > 1 else "the only run has"
        return f"mean of {what} that {runs} ({', '.join(self.metrics)}), each 0 at chance and 1 at its best value"

    def lines(self) -> list[str]:
        """For people: the order, the rule, over which results, and what was left out."""
        (run, score), *others = self.ranking[: NEXT + 1]
        behind = "".join(f", then {name} {value:.4f}" for name, value in others)
        found = [f"best run: {run} {score:.4f}{behind}", f"score: {self.rule}", f"results: {', '.join(self.results)}"]
        found += [f"not compared on {result}: {why}" for result, why in self.lacking.items()]
        return found + [f"not ranked: {name}: {why}" for name, why in self.left_out.items()]

    def to_dict(self) -> dict[str, Any]:
        """What an export keeps of the choice."""
        behind = [{"run": run, "score": score} for run, score in self.ranking[1 : NEXT + 1]]
        own = {
            "score": self.score,
            "rule": self.rule,
            "results": self.results,
            "next": behind,
            "runs": len(self.ranking),
        }
        return own | {"lacking": self.lacking, "left_out": self.left_out}


def best_run(sweep: str | pathlib.Path, best: Mapping[str, float] | None = None) -> tuple[pathlib.Path, BestRun]:
    """The folder of the best trained run in the ledger of a sweep, and how it was chosen.

    Args:
      best: metrics of other tools that count too, with the value of a perfect result.

    Raises:
      UserError: no ledger, or as ``rank_runs``.
    """
    path = pathlib.Path(sweep) / "ledger.jsonl"
    if not path.is_file():
        raise UserError(f"--sweep {sweep} has no ledger.jsonl: is it a sweep folder?")
    try:
        found = rank_runs(Ledger(path).table(), best)
    except UserError as error:
        raise UserError(f"--sweep {sweep}: {error}") from None
    return path.parent / "runs" / found.run, found


def rank_runs(rows: list[dict[str, Any]], best: Mapping[str, float] | None = None) -> BestRun:
    """Orders the trained runs of a ledger's table by the mean over the headline results that all of them have.

    A result counts by its headline metric, as a share of the way from chance to the best value, so that recall among
    many clips and accuracy among few classes, or a metric of which lower is better, weigh alike. Runs without any
    usable result are left out by name; a result that one of the others lacks counts for none.

    Raises:
      UserError: no trained run with results, nothing that all of them have, or ``best`` of a metric that is known or
        not there.
    """
    counted = _counted(rows, best or {})
    trained = {row["run"] for row in rows if (row["steps"] or 0) > 0}
    values: dict[str, dict[Result, float]] = {run: {} for run in sorted(trained)}
    lacking = _incomparable(rows, counted, trained)
    for row in rows:
        result = row["task"], row["pooling"]
        if row["run"] in trained and row["metric"] in counted and row["value"] is not None and result not in lacking:
            values[row["run"]][result] = counted[row["metric"]].normalised(row["value"], row["chance"])
    left_out = {run: "it has no result to compare" for run, own in values.items() if not own}
    values = {run: own for run, own in values.items() if own}
    if not values:
        raise UserError("no trained runs with results to compare: only headline metrics with a known chance count")
    every = sorted(set().union(*values.values()))
    shared = [result for result in every if all(result in own for own in values.values())]
    for result in every:
        without = [run for run, own in values.items() if result not in own]
        if without:
            more = f" and {len(without) - 1} more" if len(without) > 1 else ""
            lacking[result] = f"{without[0]}{more} of {len(values)} runs lack it"
    if not shared:
        least = min(values, key=lambda run: len(values[run]))
        raise UserError(
            f"no result is there for all {len(values)} trained runs; {least} has the fewest: evaluate it with "
            f"'alp eval --run', or leave it out of the sweep"
        )
    scores = {run: fmean(own[result] for result in shared) for run, own in values.items()}
    used = [
        name
        for name in counted
        if any(row["metric"] == name and (row["task"], row["pooling"]) in shared for row in rows)
    ]
    return BestRun(
        sorted(scores.items(), key=lambda item: (-item[1], item[0])),
        [counted[name].title for name in used],
        ["-".join(result) for result in shared],
        {"-".join(result): why for result, why in sorted(lacking.items())},
        left_out,
    )


def _counted(rows: list[dict[str, Any]], best: Mapping[str, float]) -> dict[str, Metric]:
    """The metrics that count: our headlines, and those of which a user states the best value."""
    counted = {name: metric for name, metric in METRICS.items() if metric.headline}
    for name, value in best.items():
        own = [row["value"] for row in rows if row["metric"] == name and row["value"] is not None]
        if not own:
            raise UserError(f"--best {name}={value:g}: no result has such a metric")
        counted[name] = foreign(name, value, own)
    return counted


def _incomparable(rows: list[dict[str, Any]], counted: Mapping[str, Metric], trained: set[str]) -> dict[Result, str]:
    """Results that say nothing of which run is better: without a chance, or with several."""
    chances: dict[Result, list[float | None]] = {}
    found: dict[Result, str] = {}
    for row in rows:
        if row["run"] in trained and row["metric"] in counted and row["value"] is not None:
            result = row["task"], row["pooling"]
            if counted[row["metric"]].normalised(row["value"], row["chance"]) is None:
                found[result] = "what guessing reaches is not known, or is the best there is"
            elif row["chance"] is not None:
                chances.setdefault(result, []).append(row["chance"])
    for result, own in chances.items():
        if max(own) - min(own) > _SAME:
            found[result] = f"runs were tested on different clips: guessing reaches {min(own):.4g} to {max(own):.4g}"
    return found
