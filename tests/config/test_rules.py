"""Settings that go wrong together are refused before anything is read; a warm-up is cut to the run."""

import dataclasses

import jax.numpy as jnp
import pytest

from alp_jax.config import ConfigError, RunConfig, check_run
from alp_jax.config.rules import clamp_note
from alp_jax.config.schema import DataConfig, FeatureConfig, ObjectiveConfig, OptimConfig, TrainConfig
from alp_jax.core.errors import UserError
from alp_jax.optim.optimizer import learning_rate
from alp_jax.scaling.sweep.plan import plan_runs


def run(objective="contrastive", **data):
    return RunConfig(objective=ObjectiveConfig(name=objective), data=DataConfig(**data))


def test_settings_that_contradict_each_other():
    with pytest.raises(ConfigError, match=r"features\.low_hz is 7700: it must be below .* 7600 Hz"):
        check_run(RunConfig(features=FeatureConfig(low_hz=7700.0)))
    parts = dataclasses.replace(run(clips_per_batch=8), train=TrainConfig(accumulate=3))
    with pytest.raises(ConfigError, match=r"train\.accumulate is 3: it must divide the 8 clips"):
        check_run(parts)


@pytest.mark.parametrize("schedule", ["cosine", "eden", "eden2", "eden3"])
def test_a_warm_up_is_no_longer_than_the_run(schedule):
    config = RunConfig(
        optim=OptimConfig(schedule=schedule, warmup_steps=500, lr_batches=1e9, lr_epochs=1e9, warmup_start=0.0),
        train=TrainConfig(steps=20),
    )
    taken = 19 if schedule == "cosine" else 20
    assert clamp_note(config).endswith(
        f"warmup_steps is 500, longer than the run of 20 steps: the warm-up takes {taken}"
    )
    rates = [float(learning_rate(config.optim, 20)(jnp.asarray(step))) for step in range(20)]
    assert max(rates) == rates[-1] == pytest.approx(1e-3, rel=1e-6) or schedule == "cosine"
    assert rates[-1] > 0.9e-3, "the peak is not reached"
    assert rates == sorted(rates)
    for steps, warmup in ((0, 500), (1000, 500), (20, 19), (20, 0)):
        fits = dataclasses.replace(config.optim, warmup_steps=warmup)
        assert clamp_note(dataclasses.replace(config, optim=fits, train=TrainConfig(steps=steps))) == ""


def test_all_runs_of_a_sweep_are_checked_before_one_starts():
    good = {"config": "configs/small.py", "config.train.steps": 10}
    for change, message in (
        ({"config.optim.lr": -1.0}, r"config\.optim\.lr is -1\.0: it must be above 0"),
        ({"config.optim.learning_rate": 1.0}, r"use config\.optim\.lr "),
    ):
        with pytest.raises(UserError, match=rf"sweep run .*{message}"):
            plan_runs([good, {**good, **change}])
