"""The table of metrics is whole and consistent, and nothing beside it decides which direction is better."""

import ast
import math
import pathlib
import re

import pytest

import alp_jax
from alp_jax.core import metrics
from alp_jax.core.errors import UserError
from alp_jax.core.metrics import METRICS, Metric

PACKAGE = pathlib.Path(alp_jax.__file__).parent


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_says_what_it_is(name):
    metric = METRICS[name]
    assert metric.name == name
    assert metric.title
    assert metric.unit in (metrics.SHARE, metrics.SCORE, metrics.RANK, metrics.NATS)
    assert metric.low < metric.high
    assert metric.low <= metric.best <= metric.high
    worse = metric.best - metric.direction * 0.25
    assert metric.low <= worse <= metric.high
    assert metric.gain(metric.best, worse) > 0 > metric.gain(worse, metric.best)
    assert metric.error(metric.best) == 0 < metric.error(worse)
    assert metric.value(metric.error(worse)) == pytest.approx(worse)
    assert metric.normalised(metric.best, worse) == 1
    assert metric.normalised(worse, worse) == 0
    assert metric.normalised(metric.best, metric.best) is None
    if metric.chance is not None:
        assert metric.normalised(metric.chance) == 0
    assert not metric.headline or math.isfinite(metric.high)


def test_the_metrics_that_people_know():
    lower = {name for name, metric in METRICS.items() if metric.direction < 0}
    assert lower == {"median_rank", "loss", "loss_autoregressive", "loss_parallel", "embedding_penalty"}
    headlines = [name for name in METRICS if metrics.is_headline(name)]
    assert headlines == ["accuracy", "map", "recall_at_10", "psds1", "rouge_l", "cider_d", "exact_match", "score"]
    assert (METRICS["median_rank"].best, METRICS["median_rank"].error(5.0)) == (1.0, 4.0)
    assert (METRICS["score"].low, METRICS["score"].high, METRICS["cider_d"].high) == (1.0, 10.0, 10.0)
    formulas = {name: METRICS[name].formula for name in ("map", "cider_d", "median_rank", "loss")}
    assert formulas == {"map": "1 - value", "cider_d": "10 - value", "median_rank": "value - 1", "loss": "value"}
    printed = {("map", 0.1234): "12.3", ("median_rank", 12.5): "12.5", ("wer", 0.5): "0.5", ("map", None): "\u2013"}
    assert {case: metrics.number(*case) for case in printed} == printed
    assert sorted(["wer", "psds1", "map", "accuracy"], key=metrics.sort_key) == ["accuracy", "map", "psds1", "wer"]


def test_the_direction_of_a_metric_of_others_follows_from_its_best_value():
    assert metrics.foreign("wer", 0.0, [0.3, 1.2]).direction == -1
    assert metrics.foreign("f1", 100.0, [30.0, 100.0]).direction == 1
    assert metrics.foreign("wer", 0.0, [0.3]).error(0.3) == 0.3
    with pytest.raises(UserError, match="some values of f1 lie below it and others above it"):
        metrics.foreign("f1", 0.5, [0.3, 0.7])
    with pytest.raises(UserError, match="loss is a known metric, whose best value is 0"):
        metrics.foreign("loss", 1.0, [0.3])
    with pytest.raises(ValueError, match="best value is not finite"):
        Metric("speed", "speed", high=math.inf)


def compared(source: str) -> list[str]:
    """Names of metrics that a comparison or a pattern in Python source looks for."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Compare | ast.MatchValue)]
    inside = (leaf for node in nodes for leaf in ast.walk(node))
    return [leaf.value for leaf in inside if isinstance(leaf, ast.Constant) and leaf.value in METRICS]


def test_nothing_else_tells_metrics_apart_by_name():
    assert compared('x = 1 if row["metric"] == "median_rank" else 2') == ["median_rank"]
    assert compared('x = name in ("map", "recall_at_10")') == ["map", "recall_at_10"]
    found = {path: compared(path.read_text()) for path in PACKAGE.rglob("*.py")}
    pattern = re.compile(rf"[=!]=\s*[\"']({'|'.join(METRICS)})[\"']")
    found |= {path: pattern.findall(path.read_text()) for path in PACKAGE.rglob("templates/*")}
    assert {str(path): names for path, names in found.items() if names} == {}
