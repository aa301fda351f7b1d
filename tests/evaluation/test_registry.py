"""A kind of task comes from outside in one file, and a registry that is wrong says what to do in one line."""

import json
import re

import numpy as np
import pytest

from alp_jax.config.schema import DataConfig, FeatureConfig, ModelConfig
from alp_jax.core import plugins
from alp_jax.core.errors import UserError
from alp_jax.core.run_files import Result
from alp_jax.evaluation import registry
from alp_jax.evaluation.evaluator import Setup
from alp_jax.evaluation.stats.table import table
from alp_jax.evaluation.suite import Suite, run_suite
from tests.evaluation.nearest_mean import NearestMean

TASK = NearestMean.names[0]


class NoText:
    sha256 = "none"


@pytest.fixture
def setup(dataset, config):
    return Setup(dataset, NoText(), config, DataConfig(bucket_seconds=(0.1, 0.2)), FeatureConfig(), ModelConfig())


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """A distribution whose entry point is the toy; ``monkeypatch`` takes it away again."""
    site = tmp_path / "site"
    info = site / "nearest-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nearest\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\nnearest = tests.evaluation.nearest_mean:NearestMean\n")
    monkeypatch.syspath_prepend(site)


@pytest.mark.usefixtures("installed")
def test_a_kind_from_outside_is_listed_measured_written_and_shown(setup, encoder, tmp_path):
    assert TASK in Suite(setup).names
    suite = Suite(setup, only=[TASK])
    (result,) = run_suite(encoder, suite, tmp_path / "eval", floors_path=tmp_path / "floors.json")
    assert json.loads((tmp_path / "eval" / f"{TASK}-mean.json").read_text()) == result
    assert (result["metric"], result["floor"], result["metrics"]["accuracy"]["floor"]) == ("accuracy", None, None)
    assert Result.read(tmp_path / "eval" / f"{TASK}-mean.json").metrics["accuracy"]["floor"] is None
    assert result["value"] > 0.9 > 1 / 3 == result["chance"]
    assert result["n_test"] == 60
    line = table([result], {}).splitlines()[1]
    assert line.split()[:4] == [TASK, "mean", "accuracy", f"{result['value']:.3f}"]
    assert line.split()[-3:] == ["0.333", "-", "-"]  # chance; no floor and no number of the paper
    again = run_suite(encoder, suite, tmp_path / "eval", floors_path=tmp_path / "floors.json")
    assert again == [result]  # a floor that is none is not computed again either


@pytest.mark.usefixtures("installed")
def test_outcomes_of_clips_are_kept_beside_the_metrics(setup, encoder, tmp_path):
    suite = Suite(setup, only=[TASK, "kind", "tags"])
    features = suite.extract(encoder, suite.names, tmp_path / "frames")
    for name, pooling in ((TASK, "mean"), ("kind", "mean"), ("tags", "mean")):
        evaluator = suite.evaluators[name]
        measured = evaluator.measure(features, encoder, pooling)[name]
        for metric, outcome_N in measured.outcomes.items():
            assert outcome_N.shape == evaluator.split.test_row.shape
            assert outcome_N.mean() == pytest.approx(measured.values[metric]["value"])
        if "accuracy" in measured.outcomes:
            assert set(measured.outcomes["accuracy"].round(9)) <= {0.0, 1.0}  # wrong or right


def test_an_unknown_task_names_those_there_are(setup):
    with pytest.raises(UserError, match=rf"unknown task '{TASK}': the data set has kind, tags, "):
        Suite(setup, only=[TASK])


def test_an_evaluator_that_lacks_a_method_is_refused(setup, monkeypatch):
    half = type("Half", (NearestMean,), {"__module__": "their.half"})
    half.__abstractmethods__ = frozenset({"floor", "poolings"})
    monkeypatch.setattr(plugins, "load", lambda group, built_in: {"half": half})
    with pytest.raises(UserError, match=r"^evaluator 'half' \(their\.half\.Half\) does not implement floor, poolings$"):
        Suite(setup)
    monkeypatch.setattr(plugins, "load", lambda group, built_in: {"odd": np.mean})
    with pytest.raises(UserError, match=r"^evaluator 'odd' \(alp_jax\.evaluators\): .* is not a subclass of "):
        Suite(setup)


@pytest.mark.parametrize("names", [(), "kind"])
def test_an_evaluator_that_names_no_task_is_refused(setup, monkeypatch, names):
    nameless = type("Nameless", (NearestMean,), {"names": names, "__module__": "their.file"})
    monkeypatch.setattr(plugins, "load", lambda group, built_in: {"nameless": nameless})
    with pytest.raises(
        UserError, match=rf"^evaluator 'nameless' \(their\.file\.Nameless\): names is {re.escape(repr(names))}: make "
    ):
        Suite(setup)


def test_two_evaluators_of_one_task_are_refused(setup, monkeypatch):
    thief = type("Thief", (NearestMean,), {"names": ("kind",)})
    monkeypatch.setattr(plugins, "load", lambda group, built_in: {"thief": thief})
    with pytest.raises(
        UserError, match=r"^task 'kind' belongs to both evaluators 'probes' and 'thief': rename it in one of"
    ):
        Suite(setup)
    monkeypatch.setattr(plugins, "load", lambda group, built_in: {"two": NearestMean, "twins": NearestMean})
    with pytest.raises(UserError, match=r"^task 'nearest_mean' belongs to both evaluators 'two' and 'twins'"):
        Suite(setup)
