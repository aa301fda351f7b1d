"""Averages against their definitions; the reference's are among the golden cases of the optimiser."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.config.schema import TrainConfig
from alp_jax.core.errors import UserError
from alp_jax.optim.optimizer import averages, range_average, update_average

PARAMS = np.random.default_rng(0).normal(size=(24, 5)).astype(np.float32)


def follow(config):
    average, history = {"w": jnp.asarray(PARAMS[0])}, []
    update = jax.jit(lambda average, p, step: update_average(config, average, p, step))
    for step, value in enumerate(PARAMS, 1):
        average = update(average, {"w": value}, step)
        history.append(average)
    return history


def test_running_average_is_the_mean_of_every_period():
    history = follow(TrainConfig(average="running", average_period=4))
    np.testing.assert_allclose(history[19]["w"], PARAMS[3:20:4].mean(0), atol=1e-6)
    np.testing.assert_array_equal(history[22]["w"], history[19]["w"])
    between = range_average(history[7], 8, history[23], 24)
    np.testing.assert_allclose(between["w"], PARAMS[11:24:4].mean(0), atol=1e-6)


def test_running_average_follows_the_parameters_in_the_first_period():
    history = follow(TrainConfig(average="running", average_period=10))
    for step in range(1, 11):
        np.testing.assert_allclose(history[step - 1]["w"], PARAMS[step - 1], atol=1e-6)
    np.testing.assert_array_equal(history[10]["w"], history[9]["w"])


def test_exponential_average_forgets_the_start():
    history = follow(TrainConfig(average="ema", ema_decay=0.5))
    expected = PARAMS[0]
    for step, value in enumerate(PARAMS, 1):
        decay = min(0.5, step / (step + 9))
        expected = decay * expected + (1 - decay) * value
    np.testing.assert_allclose(history[-1]["w"], expected, atol=1e-6)


def test_unknown_average_is_named():
    with pytest.raises(UserError, match=r"config\.train\.average 'swa'"):
        averages(TrainConfig(average="swa"))


@pytest.mark.parametrize(
    ("knob", "settings"),
    [
        ("average_period", {"average": "running", "average_period": 0}),
        ("ema_decay", {"average": "ema", "ema_decay": 1.0}),
    ],
)
def test_numbers_out_of_range_are_named(knob, settings):
    with pytest.raises(UserError, match=rf"^config\.train\.{knob} is "):
        averages(TrainConfig(**settings))
