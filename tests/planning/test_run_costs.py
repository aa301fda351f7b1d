"""What runs compute and keep is that of the accounting and of the state."""

import pathlib

import pytest

from alp_jax.config import to_dict
from alp_jax.config.flags import load_config
from alp_jax.core.errors import UserError
from alp_jax.planning.run_costs import run_costs
from alp_jax.scaling.sweep.plan import load_sweep, plan_runs

ROOT = pathlib.Path(__file__).parents[2]


def test_costs_are_those_of_the_accounting_and_of_the_state(monkeypatch):
    monkeypatch.chdir(ROOT)
    runs = plan_runs(load_sweep("configs/sweeps/mini.py"), "no/data")[:4]
    costs = run_costs({run.id: run.settings for run in runs})
    untrained, contrastive, captioning, longer = (costs[run.id] for run in runs)
    assert untrained["flops"] == 0
    assert longer["flops"] / contrastive["flops"] == pytest.approx(500 / 300)  # steps
    # what summary.json of such runs says that they did: 300 steps of 32 clips of a second
    assert captioning["flops"] == pytest.approx(556_647_782_400)
    # parameters and two statistics of each, in float32; 472,103 parameters and three checkpoints
    assert captioning["bytes"] == pytest.approx(3 * 3 * 4 * 472_103, rel=1e-3)
    assert untrained["bytes"] == contrastive["bytes"] / 3


def test_a_run_whose_objective_cannot_be_learnt_is_named():
    """Before a sweep starts: its driver, which does without JAX, has costs computed first."""
    config = load_config("configs/small.py", ["--config.data.clips_per_batch=1", "--config.data.clips_multiple=1"])
    with pytest.raises(UserError, match=r"^lonely: config\.data\.clips_per_batch is 1: it must be 2 or more"):
        run_costs({"lonely": to_dict(config)})
