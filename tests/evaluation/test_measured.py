"""Nothing is measured that the table of metrics does not know."""

import pytest

from alp_jax.core import metrics
from alp_jax.evaluation.measured import Measured
from alp_jax.evaluation.stats.published import TABLES


def test_a_metric_that_nothing_could_rank_or_print_is_refused():
    entry = {"value": 0.5, "interval": None, "chance": None}
    assert Measured(dict.fromkeys(metrics.METRICS, entry), "clips").headline() == ("accuracy", entry)
    with pytest.raises(ValueError, match=r"metric loudness is not in core\.metrics\.METRICS"):
        Measured({"map": entry, "loudness": entry}, "clips")


def test_what_the_paper_reports_is_what_tasks_are_ranked_by():
    for place, column in TABLES.items():
        metric = metrics.METRICS[column.metric]
        assert metric.headline, place
        assert all(metric.low <= value <= metric.high for value in column.values if value is not None), place
