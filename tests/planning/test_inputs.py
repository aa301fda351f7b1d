"""Inputs of runs that are missing are named all at once, before anything starts."""

import json
import pathlib

import pytest

from alp_jax.cli import main as cli
from alp_jax.config.flags import load_config
from alp_jax.planning.inputs import missing_inputs
from alp_jax.scaling.sweep import prepare
from alp_jax.scaling.sweep.forecast import RunEstimate
from alp_jax.scaling.sweep.plan import load_sweep, plan_runs

ROOT = pathlib.Path(__file__).parents[2]


def touch(*paths):
    for path in map(pathlib.Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A started run of the paper, in an empty folder."""
    arguments = "objective=contrastive,init=runs/audioset"
    monkeypatch.chdir(tmp_path)
    return load_config(f"{ROOT}/configs/paper.py:{arguments}", ["--config.evaluation.lit_text=runs/bert"])


def test_all_that_is_missing_is_named_with_its_setting(config):
    named = "\n".join(missing_inputs(config))
    settings = ("data.path", "data.tokenizer", "init", "init_text", "evaluation.lit_text")
    for setting in settings:
        assert f"(config.{setting})" in named
    assert named.count("\n") == len(settings) - 1


def test_what_is_there_is_not_named(config):
    touch("data/captionstew/dataset.json", "runs/bert/tokenizer.json", "runs/bert/config.json")
    assert missing_inputs(config) == ["start runs/audioset (config.init): 'alp import' or 'alp train' makes it"]
    touch("runs/audioset/config.json")
    assert missing_inputs(config) == []


def test_the_tokenizer_that_is_to_be_trained_has_the_model_s_size(config):
    scratch = load_config(f"{ROOT}/configs/paper.py:objective=captioning", [])
    assert "'alp tokenizer --data data/captionstew --vocab_size 50000' makes it" in missing_inputs(scratch)[1]


@pytest.mark.parametrize(("flags", "status"), [((), 2), (("--dry_run",), 0), (("--dry_run", "--on", "slurm"), 0)])
def test_a_sweep_says_what_is_missing_and_starts_nothing(flags, status, tmp_path, monkeypatch, capsys):
    lines = ["start runs/audioset (config.init)", "data set x (config.data.path)"]

    def estimates(spec, data):
        runs = plan_runs(load_sweep(spec), data)
        return {run.id: RunEstimate(1e18, 1e9, lines[: i + 1]) for i, run in enumerate(runs[:2])}

    monkeypatch.setattr(prepare, "estimate_in_own_process", estimates)
    monkeypatch.chdir(ROOT)
    out = tmp_path / "sweep"
    assert cli.main(["sweep", "--sweep=configs/sweeps/paper.py", "--out", str(out), *flags]) == status
    said = capsys.readouterr()
    for line in lines:
        assert (said.err if status else said.out).count(line) == 1
    assert not out.exists()
    assert cli.main(["sweep", "--sweep=configs/sweeps/paper.py", "--out", str(out), "--json", *flags]) == status
    if not status:
        assert json.loads(capsys.readouterr().out)["missing"] == lines
