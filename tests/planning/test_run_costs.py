"""What runs compute and keep is that of the accounting and of the state."""

import pathlib

import pytest

from alp_jax.cli.configuration import load_config
from alp_jax.planning.run_costs import run_costs
from alp_jax.scaling.sweep.plan import load_sweep, plan_runs

ROOT = pathlib.Path(__file__).parents[2]


def test_costs_are_those_of_the_accounting_and_of_the_state(monkeypatch):
    monkeypatch.chdir(ROOT)
    runs = plan_runs(load_sweep("configs/sweeps/mini.py"), load_config, "no/data")[:4]
    costs = run_costs({run.id: run.settings for run in runs})
    untrained, contrastive, captioning, longer = (costs[run.id] for run in runs)
    assert untrained["flops"] == 0
    assert longer["flops"] / contrastive["flops"] == pytest.approx(500 / 300)  # steps
    # what summary.json of such runs says that they did: 300 steps of 32 clips of a second
    assert captioning["flops"] == pytest.approx(556_647_782_400)
    # parameters and two statistics of each, in float32; 472,103 parameters and three checkpoints
    assert captioning["bytes"] == pytest.approx(3 * 3 * 4 * 472_103, rel=1e-3)
    assert untrained["bytes"] == contrastive["bytes"] / 3
