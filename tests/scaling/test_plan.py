"""Sweep files are pure, their runs have stable names, and mistakes are found before anything starts."""

import pathlib

import pytest

from alp_jax.cli.configuration import load_config
from alp_jax.core.errors import UserError
from alp_jax.scaling.plan import load_sweep, plan_runs

ROOT = pathlib.Path(__file__).parents[2]
MINI = ROOT / "configs" / "sweeps" / "mini.py"


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_the_mini_sweep_is_the_product_of_its_axes_and_pure():
    sweep = load_sweep(MINI)
    assert sweep == load_sweep(MINI)
    trained = [run for run in sweep["runs"] if run["kind"] == "trained"]
    assert len(trained) == 12
    points = {(run["objective"], run["pairs"], run["config.seed"]) for run in trained}
    assert len(points) == 12
    assert {run["objective"] for run in trained} == {"contrastive", "captioning"}
    assert len({run["pairs"] for run in trained}) == 3
    untrained = [run for run in sweep["runs"] if run["kind"] == "untrained"]
    assert [run["config.train.steps"] for run in untrained] == [0, 0]


def test_planned_runs_resolve_to_what_they_say():
    runs = plan_runs(load_sweep(MINI), load_config, "some/data")
    assert len({run.id for run in runs}) == 14
    for run in runs:
        assert run.settings["data"]["path"] == "some/data"
        assert (run.kind == "untrained") == (run.settings["train"]["steps"] == 0)
        assert run.settings["objective"]["name"] in run.id
        assert f"seed{run.settings['seed']}" in run.id
    trained = [run for run in runs if run.kind == "trained"]
    steps = {(run.settings["data"]["pairs"], run.settings["train"]["steps"]) for run in trained}
    assert [pairs for pairs, _ in sorted(steps)] == [1000, 4000, 16000]
    assert len({round(run.typical_seconds - 0.1 * run.settings["train"]["steps"], 6) for run in trained}) == 1


def test_ids_follow_the_resolved_settings_but_not_the_place_of_the_data():
    sweep = load_sweep(MINI)
    here = [run.id for run in plan_runs(sweep, load_config, "here")]
    assert here == [run.id for run in plan_runs(sweep, load_config, "there")]
    sweep["shared"] = {**sweep["shared"], "config.optim.lr": 0.5}
    assert not set(here) & {run.id for run in plan_runs(sweep, load_config, "here")}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config.optim.lrr": 1}, "config.optim.lr)"),
        ({"pears": "1k"}, "'pairs'"),
        ({"kind": "traned"}, "'trained'"),
        ({"kind": "untrained"}, "does not fit config.train.steps"),
    ],
)
def test_a_wrong_run_is_named_before_anything_starts(change, words):
    sweep = load_sweep(MINI)
    sweep["runs"] = [{**sweep["runs"][-1], **change}]
    with pytest.raises(UserError) as caught:
        plan_runs(sweep, load_config)
    assert words in str(caught.value)


def test_the_same_run_twice_is_refused():
    sweep = load_sweep(MINI)
    sweep["runs"] = [sweep["runs"][0], {"config.seed": 0, **sweep["runs"][0]}]
    with pytest.raises(UserError, match="twice"):
        plan_runs(sweep, load_config)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "does not exist"),
        ("def get_sweep(): return {'config': 'c', 'runs': [], 'shared': {}, 'typical_seconds': {}}", "no runs"),
        ("def get_sweep(): return {'config': 'c', 'runz': []}", "'runs'"),
        ("x = 1 / 0", "ZeroDivisionError"),
        ("x = 1", "get_sweep"),
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
