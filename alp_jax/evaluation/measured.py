"""What an evaluator returns: values with intervals and chance, and what every test clip adds to them."""

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
      values: metric name -> value, interval and chance (None where there is no such thing); the first is the headline.
      resampled: what intervals resample: ``groups`` or ``clips``.
      notes: what else the result of the task states.
      selected: settings that were chosen on held-out clips.
      outcomes: metric name -> float64[N], what every test clip (or query) scored, in the order of the test rows, so
        that two models can be compared pair by pair: its own value where the metric is a mean over clips, else its
        jackknife pseudo-value, whose mean is the metric as well; over seeds, the mean; NaN where a clip does not count.
        Metrics of a whole corpus (BLEU, PSDS) have none. They are not written into results.

    Raises:
      ValueError: a metric that ``core.metrics.METRICS`` does not know, so that nothing could rank or print it.
    """

    values: dict[str, dict]
    resampled: str
    notes: dict = dataclasses.field(default_factory=dict)
    selected: dict = dataclasses.field(default_factory=dict)
    outcomes: dict[str, np.ndarray] = dataclasses.field(default_factory=dict, compare=False)

    def __post_init__(self):
        unknown = [name for name in self.values if name not in METRICS]
        if unknown:
            raise ValueError(f"metric {unknown[0]} is not in core.metrics.METRICS: say there what it is")

    def result(self, task: str, pooling: str, floor: Mapping[str, float], facts: dict) -> Result:
        """``floor`` has a value for every metric that has a floor."""
        metrics = {name: {**value, "floor": floor.get(name)} for name, value in self.values.items()}
        return Result(task, pooling, self.headline()[0], metrics, facts)

    def headline(self) -> tuple[str, dict]:
        return next(iter(self.values.items()))


def from_estimates(
    estimates: Mapping[str, Sequence[Estimate]],
    drawn: Resamples,
    chance: Mapping[str, float | None],
    *,
    notes: dict | None = None,
    selected: dict | None = None,
) -> Measured:
    """Metrics by name; the estimates of one are those of seeds, mostly one."""
    values = entries(estimates, drawn, chance)
    outcomes = {name: np.mean([_outcomes(one) for one in of_seeds], axis=0) for name, of_seeds in estimates.items()}
    return Measured(values, drawn.unit, notes or {}, selected or {}, outcomes)


def _outcomes(estimate: Estimate) -> np.ndarray:
    counted_N = estimate.counted_N
    if counted_N is None:
        counted_N = np.ones(len(estimate.influence_N), bool)
    # an influence is (own value - mean) / clips for a mean; the same formula is the jackknife's for anything else
    return np.where(counted_N, estimate.value + counted_N.sum() * estimate.influence_N, np.nan)
