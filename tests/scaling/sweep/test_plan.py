"""Sweep files are pure, their runs have stable names, and mistakes are found before anything starts."""

import pathlib
import subprocess
import sys

import pytest

from alp_jax.core.errors import UserError
from alp_jax.scaling.sweep.plan import load_sweep, plan_runs, sweep_name

ROOT = pathlib.Path(__file__).parents[3]
MINI = ROOT / "configs" / "sweeps" / "mini.py"


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_the_mini_sweep_is_the_product_of_its_axes_and_pure():
    runs = load_sweep(MINI)
    assert runs == load_sweep(MINI)
    trained = [run for run in runs if run["config.train.steps"]]
    points = {(run["objective"], run["pairs"], run["config.seed"]) for run in trained}
    assert len(trained) == len(points) == 12
    assert {run["objective"] for run in trained} == {"contrastive", "captioning"}
    assert len(runs) == 14


def test_planned_runs_resolve_to_what_they_say():
    runs = plan_runs(load_sweep(MINI), "some/data")
    assert len({run.id for run in runs}) == 14
    for run in runs:
        assert run.settings["data"]["path"] == "some/data"
        assert (run.kind == "untrained") == (run.settings["train"]["steps"] == 0)
        assert run.settings["objective"]["name"] in run.id
        assert f"seed{run.settings['seed']}" in run.id
    trained = [run for run in runs if run.kind == "trained"]
    steps = {(run.settings["data"]["pairs"], run.settings["train"]["steps"]) for run in trained}
    assert [pairs for pairs, _ in sorted(steps)] == [1000, 4000, 16000]
    assert len({round(run.seconds - 0.1 * run.settings["train"]["steps"], 6) for run in trained}) == 1


def test_ids_follow_the_resolved_settings_alone():
    sweep = load_sweep(MINI)

    def ids(runs, data="here"):
        return [run.id for run in plan_runs(runs, data)]

    here = ids(sweep)
    assert here == ids(sweep, "there")
    assert here == ids([dict(reversed(run.items())) for run in sweep])
    assert here[3:4] == ids(sweep[3:4])  # whatever else is in the sweep
    assert here == ids([{**run, "seconds": 1} for run in sweep])
    stated = {**sweep[3], "config.optim.lr": 0.003}  # what configs/small.py says anyway
    assert here[3:4] == ids([stated])
    assert not set(here) & set(ids([{**run, "config.optim.lr": 0.5} for run in sweep]))


def test_a_sweep_is_called_by_its_file_and_arguments():
    assert sweep_name("configs/sweeps/hybrid.py:size=mini") == "hybrid:size=mini"
    assert sweep_name("grid.py") == "grid"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config.optim.lrr": 1}, "config.optim.lr)"),
        ({"pears": "1k"}, "'pairs'"),
        ({"config": "configs/smal.py"}, "configs/smal.py does not exist"),
        ({"seconds": -1}, "seconds -1"),
        ({"seconds": "long"}, "seconds 'long'"),
    ],
)
def test_a_wrong_run_is_named_before_anything_starts(change, words):
    with pytest.raises(UserError) as caught:
        plan_runs([{**load_sweep(MINI)[-1], **change}])
    assert words in str(caught.value)


def test_the_same_run_twice_is_refused():
    run = load_sweep(MINI)[0]
    with pytest.raises(UserError, match="twice"):
        plan_runs([run, {**run, "config.optim.lr": 0.003}])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "does not exist"),
        ("def get_sweep(arg): return []", "list of dictionaries"),
        ("def get_sweep(arg): return {'runs': []}", "list of dictionaries"),
        ("def get_sweep(arg): return [{'pairs': '1k'}]", "'config'"),
        ("x = 1 / 0", "ZeroDivisionError"),
        ("x = 1", "get_sweep"),
        ("from alp_jax.config.algebra import *\ndef get_sweep(arg): return zipped([{}], [])", "1 and 0 runs"),
    ],
)
def test_sweep_files_that_cannot_be_used_are_named(tmp_path, text, words):
    file = tmp_path / "grid.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError) as caught:
        load_sweep(file)
    assert words in str(caught.value)
    assert "grid.py" in str(caught.value)


def test_planning_loads_no_jax():
    """The driver of a sweep forks: that is not for a process with the threads of JAX."""
    source = f"""
import sys
from alp_jax.scaling.sweep.plan import load_sweep, plan_runs

assert plan_runs(load_sweep({str(MINI)!r}))
assert "jax" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", source], check=True)
