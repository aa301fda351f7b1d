"""Settings that go wrong together are refused before anything is read; a warm-up is cut to the run."""

import dataclasses

import jax.numpy as jnp
import pytest

from alp_jax.cli.configuration import load_config
from alp_jax.config import ConfigError, RunConfig, check_run
from alp_jax.config.rules import clamp_note
from alp_jax.config.schema import DataConfig, FeatureConfig, ObjectiveConfig, OptimConfig, TrainConfig
from alp_jax.core.errors import UserError
from alp_jax.optim.optimizer import learning_rate
from alp_jax.scaling.sweep.plan import plan_runs


def run(objective="contrastive", **data):
    return RunConfig(objective=ObjectiveConfig(name=objective), data=DataConfig(**data))


@pytest.mark.parametrize("objective", ["contrastive", "hybrid"])
def test_one_clip_has_no_negatives(objective):
    why = rf"clips_per_batch is 1: it must be 2 or more, or 0.*objective {objective} compares"
    with pytest.raises(ConfigError, match=rf"config\.data\.{why}"):
        check_run(run(objective, clips_per_batch=1, clips_multiple=1))
    check_run(run("captioning", clips_per_batch=1, clips_multiple=1))
    check_run(run("tagging", clips_per_batch=1, clips_multiple=1))
    check_run(run(objective, clips_per_batch=2, clips_multiple=1))


@pytest.mark.parametrize(
    "data", [{}, {"bucket_seconds": ()}, {"bucket_seconds": (10.0, 25.0)}, {"bucket_seconds": (), "crop_seconds": 26.0}]
)
def test_how_many_clips_fit_the_seconds_is_for_the_data_to_say(data):
    """Its longest clips may be shorter than the longest bucket, which then is not used."""
    check_run(run(batch_seconds=20.0, clips_multiple=1, **data))


@pytest.mark.parametrize("objective", ["contrastive", "hybrid"])
def test_a_temperature_that_the_limit_forbids_is_refused(objective):
    def at(name=objective, **settings):
        return RunConfig(objective=ObjectiveConfig(name=name, **settings))

    with pytest.raises(
        ConfigError, match=r"temperature is 0\.005: it must be at least 0\.01, which is 1 / .*max_logit"
    ):
        check_run(at(temperature=0.005))
    with pytest.raises(ConfigError, match=r"temperature is 0\.07: it must be at least 0\.1,"):
        check_run(at(temperature=0.07, max_logit_scale=10.0, learn_temperature=False))
    for limit in (3.0, 7.0, 30.0, 49.0, 100.0):
        check_run(at(temperature=1 / limit, max_logit_scale=limit))
    check_run(at(temperature=0.005, max_logit_scale=200.0))
    check_run(at("captioning", temperature=0.005))


def test_a_model_without_a_text_side_has_nothing_to_train():
    with pytest.raises(
        ConfigError, match=r"objective\.name is none: .* imported .* choose contrastive, captioning, hyb"
    ):
        check_run(run("none"))


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
        ({"config.data.clips_per_batch": 1, "config.data.clips_multiple": 1}, "clips_per_batch is 1"),
        ({"config.optim.learning_rate": 1.0}, r"use config\.optim\.lr "),
    ):
        with pytest.raises(UserError, match=rf"sweep run .*{message}"):
            plan_runs([good, {**good, **change}], load_config)
