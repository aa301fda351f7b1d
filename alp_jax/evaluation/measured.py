"""What an evaluator returns: values with intervals and chance, and what every test clip scored."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from alp_jax.core.metrics import METRICS
from alp_jax.core.run_files import Result
from alp_jax.evaluation.stats.bootstrap import Estimate, Resamples, entries


@dataclasses.dataclass(frozen=True)
class Measured:
    """The metrics of one task on one model.

    Attributes:
      values: metric name -> value, interval and chance (the last two may be None); the first is the headline.
      resampled: what intervals resample: ``groups`` or ``clips``.
      notes: anything else that the result of the task should state.
      selected: settings that were chosen on held-out clips.
      outcomes: metric name -> float64[N], what every test clip (or query) scored, in the order of the test rows, for
        paired comparisons of two models: its own value where the metric is a mean over clips, otherwise its jackknife
        pseudo-value (their mean is the metric too). Seeds are averaged; NaN marks clips that do not count. Metrics of
        a whole test set (BLEU, the detection score PSDS) have none. Outcomes are not written into results.

    Raises:
      ValueError: a metric that is missing from ``core.metrics.METRICS``, so nothing could rank or print it.
    """

    values: dict[str, dict]
    resampled: str
    notes: dict = dataclasses.field(default_factory=dict)
    selected: dict = dataclasses.field(default_factory=dict)
    outcomes: dict[str, np.ndarray] = dataclasses.field(default_factory=dict, compare=False)

    def __post_init__(self):
        unknown = [name for name in self.values if name not in METRICS]
        if unknown:
            raise ValueError(f"metric {unknown[0]} is not in core.metrics.METRICS: describe it there")

    def result(self, task: str, pooling: str, floor: Mapping[str, float], facts: dict) -> Result:
        """The result of one task; ``floor`` holds a value for every metric that has a floor."""
        metrics = {name: {**value, "floor": floor.get(name)} for name, value in self.values.items()}
        return Result(task, pooling, self.headline()[0], metrics, facts)

    def headline(self) -> tuple[str, dict]:
        """The first metric: its name, and its value, interval and chance."""
        return next(iter(self.values.items()))


def from_estimates(
    estimates: Mapping[str, Sequence[Estimate]],
    drawn: Resamples,
    chance: Mapping[str, float | None],
    *,
    notes: dict | None = None,
    selected: dict | None = None,
) -> Measured:
    """``Measured`` from estimates by metric name, one per seed; most metrics have a single one."""
    values = entries(estimates, drawn, chance)
    outcomes = {name: np.mean([_outcomes(one) for one in of_seeds], axis=0) for name, of_seeds in estimates.items()}
    return Measured(values, drawn.unit, notes or {}, selected or {}, outcomes)


def _outcomes(estimate: Estimate) -> np.ndarray:
    counted_N = estimate.counted_N
    if counted_N is None:
        counted_N = np.ones(len(estimate.influence_N), bool)
    # For a mean, an influence is (own value - mean) / clips, so this gives back the own value. For any other metric the
    # same formula is the jackknife's pseudo-value.
    return np.where(counted_N, estimate.value + counted_N.sum() * estimate.influence_N, np.nan)
