"""ScaledAdam and Eden against the reference's recorded runs, and what they do where nothing was recorded."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alp_jax.config.schema import OptimConfig
from alp_jax.core.errors import UserError
from alp_jax.golden.case import find_cases
from alp_jax.golden.runner import run_case
from alp_jax.optim.optimizer import eden, learning_rate, lr_scales, make_optimizer, parse_lr_scale
from alp_jax.optim.scaled_adam import REFERENCE, ScaledAdamSettings, scaled_adam
from alp_jax.parallel.rules import infer_shardings

CASES = {case.name: case for case in find_cases(pathlib.Path(__file__).parent / "golden")}


@pytest.mark.parametrize("name", sorted(CASES))
def test_runs_equal_the_reference(name):
    result = run_case(CASES[name])
    assert result.ok, (result.problem, [str(line) for line in result.lines if not line.ok])


def test_updates_scale_with_the_parameter_and_not_with_the_gradient():
    params = {"small": jnp.full((4, 4), 0.01), "large": jnp.full((4, 4), 1.0)}
    grads = {name: jnp.sin(jnp.arange(16.0)).reshape(4, 4) for name in params}
    optimizer = scaled_adam(lambda count: 0.045)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_allclose(updates["large"], 100 * updates["small"], rtol=1e-5)
    louder, _ = optimizer.update(jax.tree.map(lambda g: 1e4 * g, grads), optimizer.init(params), params)
    np.testing.assert_allclose(louder["large"], updates["large"], rtol=1e-5)


def test_an_infinite_gradient_is_left_out_once_a_threshold_is_known():
    params = {"kernel": jnp.ones((3, 3))}
    optimizer = scaled_adam(lambda count: 0.01)
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for _ in range(12):
        _, state = update({"kernel": jnp.ones((3, 3))}, state, params)
    updates, after = update({"kernel": jnp.full((3, 3), jnp.inf)}, state, params)
    still, _ = update({"kernel": jnp.zeros((3, 3))}, state, params)
    assert float(after.clipping.factor_G[0]) == 0.0
    np.testing.assert_array_equal(updates["kernel"], still["kernel"])


def test_not_a_number_reaches_its_own_parameter_alone():
    params = {"in": jnp.ones(3), "out": jnp.ones(3)}
    optimizer = scaled_adam(lambda count: 0.01)
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for _ in range(12):
        _, state = update(jax.tree.map(jnp.ones_like, params), state, params)
    updates, after = update({"in": jnp.full(3, jnp.nan), "out": jnp.ones(3)}, state, params)
    assert float(after.clipping.factor_G[0]) == 1.0
    assert np.isnan(updates["in"]).all()
    assert np.isfinite(updates["out"]).all()


def test_factors_multiply_along_a_path_and_zero_freezes():
    params = {"encoder": {"in": {"kernel": jnp.ones((2, 2))}, "out": {"kernel": jnp.ones((2, 2))}}, "text": jnp.ones(3)}
    rules = parse_lr_scale("encoder=0.5,encoder/in=0.2,text=0")
    assert lr_scales(params, rules) == pytest.approx([0.1, 0.5, 0.0])
    for name in ("adamw", "scaled_adam"):
        config = OptimConfig(name=name, schedule="eden2", lr_scale="encoder=0.5,encoder/in=0.2,text=0", clip_norm=0.0)
        optimizer = make_optimizer(config, 100)
        updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params), params)
        np.testing.assert_allclose(
            updates["encoder"]["in"]["kernel"], 0.2 * updates["encoder"]["out"]["kernel"], rtol=1e-5
        )
        np.testing.assert_array_equal(updates["text"], np.zeros(3))


def test_malformed_factors_are_named():
    with pytest.raises(UserError, match="'encoder=fast' is not NAME=FACTOR"):
        make_optimizer(OptimConfig(lr_scale="encoder=fast"), 10)
    with pytest.raises(UserError, match=r"no parameter under encode$"):
        make_optimizer(OptimConfig(name="scaled_adam", lr_scale="encode=1"), 10).init({"encoder": jnp.ones(2)})
    with pytest.raises(UserError, match=r"config\.optim\.schedule 'eden4' \(did you mean 'eden'"):
        learning_rate(OptimConfig(schedule="eden4"), 10)


@pytest.mark.parametrize(
    ("knob", "settings"),
    [
        ("size_period", {"name": "scaled_adam", "size_period": 0}),
        ("clipping_period", {"name": "scaled_adam", "clipping_period": 0}),
        ("clipping_scale", {"name": "scaled_adam", "clipping_scale": -2.0}),
        ("lr_batches", {"schedule": "eden2", "lr_batches": 0.0}),
        ("lr_epochs", {"schedule": "eden3", "lr_epochs": 0.0}),
        ("steps_per_epoch", {"schedule": "eden", "steps_per_epoch": 0.0}),
    ],
)
def test_numbers_out_of_range_are_named(knob, settings):
    with pytest.raises(UserError, match=rf"^config\.optim\.{knob} is "):
        make_optimizer(OptimConfig(**settings), 10)


def test_knobs_that_are_not_read_may_be_anything():
    make_optimizer(OptimConfig(schedule="eden2", lr_epochs=0.0, steps_per_epoch=0.0, size_period=0), 10)


def test_the_first_update_is_batch_one_of_the_reference():
    rate = learning_rate(OptimConfig(schedule="eden2", lr=0.045, warmup_steps=500), 10_000)
    assert float(rate(jnp.asarray(0))) == pytest.approx(0.0225449998998, rel=1e-6)
    peak = float(rate(jnp.asarray(499)))
    assert peak == pytest.approx(0.0449, rel=2e-3)
    assert float(rate(jnp.asarray(299_999))) == pytest.approx(0.045 / 40, rel=1e-3)


@pytest.mark.parametrize("name", ["Eden", "Eden2", "Eden3"])
def test_rates_on_device_are_exact_in_float32(name):
    table = json.loads((CASES["eden"].folder / "table.json").read_text())
    part = table[name]
    config = OptimConfig(
        schedule=name.lower(), lr=table["base_lr"], warmup_steps=500, steps_per_epoch=part.get("steps_per_epoch", 1.0)
    )
    batch, epoch, expected = np.asarray(part["rows"], np.float64).T  # no epoch is NaN
    rates = jax.jit(lambda batch, epoch: eden(config, batch, epoch))(np.float32(batch), np.float32(epoch))
    assert rates.dtype == np.float32
    np.testing.assert_allclose(rates, expected, rtol=5e-7)


def test_every_statistic_has_a_place_on_the_mesh():
    mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(2, 4), ("data", "fsdp"))
    params = {"dense": {"kernel": jnp.ones((64, 128)), "bias": jnp.ones(128)}}
    optimizer = make_optimizer(OptimConfig(name="scaled_adam"), 10)
    shapes = jax.eval_shape(optimizer.init, params)
    placed = infer_shardings({"params": params, "opt": shapes}, mesh)
    whole, split = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec(None, "fsdp")
    delta = placed["opt"].delta
    assert delta["whole"]["dense"]["kernel"].spec == placed["params"]["dense"]["kernel"].spec == split
    assert delta["stacked"]["bias"]["128"].spec == whole
    assert placed["opt"].size_grads_PN.spec == placed["opt"].clipping.norms_GK.spec == whole

    def step(params, state):
        updates, state = optimizer.update(jax.tree.map(jnp.cos, params), state, params)
        return optax.apply_updates(params, updates), state

    one = jax.jit(step)(params, optimizer.init(params))
    eight = jax.jit(step, out_shardings=(placed["params"], placed["opt"]))(params, optimizer.init(params))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_eden_falls_with_whole_epochs_and_is_warmed_up_as_the_reference():
    """The trainer sets the epoch, counted from 0, when one begins: it stays what it is until the next one does."""
    config = OptimConfig(
        schedule="eden", lr=0.04, lr_batches=50.0, lr_epochs=2.0, steps_per_epoch=20.0, warmup_steps=10
    )
    steps = np.arange(100)
    found = jax.vmap(learning_rate(config, 100))(jnp.asarray(steps))
    batch, epoch = steps + 1, steps // 20
    fall = ((batch**2 + 50**2) / 50**2) ** -0.25 * ((epoch**2 + 2**2) / 2**2) ** -0.25
    np.testing.assert_allclose(found, 0.04 * fall * np.minimum(0.5 + 0.05 * batch, 1.0), rtol=1e-6)


def test_the_constants_are_those_of_the_reference():
    """(betas, eps, scalar_lr_scale, least and largest rms, scalar_max, size period, clipping scale and period)"""
    config = OptimConfig()
    assert tuple(REFERENCE) == (0.9, 0.98, 1e-8, 0.1, 1e-5, 3.0, 10.0, 4, 2.0, 100)
    assert (config.b1, config.b2, config.eps) == REFERENCE[:3]
    assert (config.scalar_lr_scale, config.size_period) == (REFERENCE.scalar_lr_scale, REFERENCE.size_period)
    assert (config.clipping_scale, config.clipping_period) == REFERENCE[-2:]
    assert (config.lr_batches, config.lr_epochs, config.warmup_steps, config.warmup_start) == (7500.0, 3.5, 500, 0.5)


def test_every_setting_reaches_the_optimiser():
    config = OptimConfig(
        name="scaled_adam",
        schedule="eden2",
        b1=0.8,
        b2=0.95,
        eps=1e-3,
        scalar_lr_scale=0.3,
        size_period=2,
        clipping_scale=0.7,
        clipping_period=5,
    )
    settings = ScaledAdamSettings(
        0.8, 0.95, 1e-3, scalar_lr_scale=0.3, size_period=2, clipping_scale=0.7, clipping_period=5
    )
    optimizers = make_optimizer(config, 100), scaled_adam(learning_rate(config, 100), settings)
    params = {"kernel": jnp.ones((3, 3)), "scale": jnp.ones(())}
    states, updates = [optimizer.init(params) for optimizer in optimizers], [jax.jit(o.update) for o in optimizers]
    for step in range(8):
        grads = jax.tree.map(
            lambda p, step=step: (1.0 + step**2) * jnp.cos(jnp.arange(p.size)).reshape(p.shape), params
        )
        found, states = zip(*(u(grads, state, params) for u, state in zip(updates, states, strict=True)), strict=True)
        jax.tree.map(np.testing.assert_array_equal, *found)
    assert float(states[0].clipping.factor_G[0]) < 1.0
