"""Nothing is measured that the table of metrics does not know."""

import numpy as np
import pytest

from alp_jax.core.metrics import METRICS
from alp_jax.evaluation.measured import Measured, from_estimates
from alp_jax.evaluation.stats import bootstrap, metrics
from alp_jax.evaluation.stats.published import TABLES


def test_a_metric_that_nothing_could_rank_or_print_is_refused():
    entry = {"value": 0.5, "interval": None, "chance": None}
    assert Measured(dict.fromkeys(METRICS, entry), "clips").headline() == ("accuracy", entry)
    with pytest.raises(ValueError, match=r"metric loudness is not in core\.metrics\.METRICS"):
        Measured({"map": entry, "loudness": entry}, "clips")


def test_outcomes_are_what_every_clip_scored():
    right_N, counted_N = np.array([1.0, 0.0, 1.0, 1.0]), np.array([True, True, True, False])
    drawn = bootstrap.Resamples(["a", "b", "c", "d"])
    measured = from_estimates(
        {"accuracy": [metrics.mean(right_N)], "readable": [metrics.mean(right_N, counted_N)]}, drawn, {}
    )
    np.testing.assert_allclose(measured.outcomes["accuracy"], right_N)
    np.testing.assert_allclose(measured.outcomes["readable"], [1.0, 0.0, 1.0, np.nan])
    seeds = from_estimates({"accuracy": [metrics.mean(right_N), metrics.mean(1 - right_N)]}, drawn, {})
    np.testing.assert_allclose(seeds.outcomes["accuracy"], 0.5)


def test_what_the_paper_reports_is_what_tasks_are_ranked_by():
    for place, column in TABLES.items():
        metric = METRICS[column.metric]
        assert metric.headline or column.stated, place  # where the paper leaves its metric open, ours may differ
        assert all(metric.low <= value <= metric.high for value in column.values if value is not None), place
