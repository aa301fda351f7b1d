"""Cases of the optimiser: ScaledAdam's trajectories and the Eden learning rates."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alp_jax.config.schema import OptimConfig, TrainConfig
from alp_jax.golden.case import Case
from alp_jax.golden.compare import Line, compare
from alp_jax.optim.optimizer import eden, lr_scales, range_average, update_average
from alp_jax.optim.scaled_adam import ScaledAdamSettings, scaled_adam

TRAJECTORY = 1e-5  # relative: float32 sums in a different order
AVERAGE = 1e-6  # relative: float32 where the reference keeps float64
RATE = 1e-9  # relative: float64


def check_scaled_adam(case: Case) -> Iterator[Line]:
    """Parameters after every recorded step and the clipping factor of every step."""
    config, io = case.config, case.tensors()
    kwargs = dict(config["kwargs"])
    b1, b2 = kwargs.pop("betas", (0.9, 0.98))
    names = {"clipping_update_period": "clipping_period", "size_update_period": "size_period"}
    names |= {"param_min_rms": "min_rms", "param_max_rms": "max_rms"}
    values = {names.get(name, name): value for name, value in kwargs.items()}
    values["clipping_scale"] = values.get("clipping_scale") or 0.0
    params, grads = _tensors(io, "param"), _tensors(io, "grad")
    frozen = {name: 0.0 for name in params if name not in grads}
    optimizer = scaled_adam(
        lambda count: config["lr"],
        ScaledAdamSettings(b1=b1, b2=b2, **values),
        lr_scales=lambda tree: lr_scales(tree, frozen),
    )
    every = config["trajectory_every"]
    trajectories, factors = _run(optimizer, params, grads, config["steps"])
    for name in params:
        yield _trajectory(case, f"param.{name}", trajectories[name][::every], io[f"param.{name}"])
    if "clip_scale" in io:
        yield compare(case.name, "clip_scale", factors[:, 0], io["clip_scale"], TRAJECTORY)


def check_groups(case: Case) -> Iterator[Line]:
    """Factors on the learning rate by name, frozen parameters, and clipping by group."""
    config, io = case.config, case.tensors()
    # names are dotted paths there, and factors multiply: that of enc.1 comes on top of that of enc
    rules = {name.replace(".", "/"): factor for name, factor in config["lr_scale"].items()}
    rules |= {name.replace(".", "/"): 0.0 for name in config["frozen"]}
    schedule = config["schedule"]
    optim = OptimConfig(
        lr=config["lr"],
        schedule=schedule["type"].lower(),
        lr_batches=schedule["lr_batches"],
        warmup_steps=int(schedule["warmup_batches"]),
        warmup_start=schedule["warmup_start"],
    )
    params, grads = _tensors(io, "param"), _tensors(io, "grad")
    optimizer = scaled_adam(
        lambda count: eden(optim, count + 1.0),
        ScaledAdamSettings(clipping_scale=config["clipping_scale"]),
        lr_scales=lambda tree: lr_scales(_nested(tree), rules) if tree else [],
    )
    trajectories, factors = _run(optimizer, params, grads, len(io["lr"]))
    for name in params:
        yield _trajectory(case, f"param.{name}", trajectories[name], io[f"param.{name}"])
    calls = np.asarray(config["clip_scale_calls"]).reshape(len(factors) - 1, -1)  # none recorded at the first step
    order = np.argsort([group["lr"] for group in config["groups"]])  # ours are in the order of their rates
    yield compare(case.name, "clip_scale", factors[1:], calls[:, order], TRAJECTORY)


def check_eden(case: Case) -> Iterator[Line]:
    """A line per schedule of the table, over all its batches and epochs."""
    table = case.table()
    with jax.enable_x64(True):
        for name, part in table.items():
            if not isinstance(part, dict):
                continue
            config = OptimConfig(
                lr=table["base_lr"],
                schedule=name.split("_")[0].lower(),
                lr_batches=part["lr_batches"],
                lr_epochs=part.get("lr_epochs", 3.5),
                steps_per_epoch=part.get("steps_per_epoch", 1.0),
                warmup_steps=int(part["warmup_batches"]),
                warmup_start=part["warmup_start"],
            )
            batch, epoch, expected = np.asarray(part["rows"], np.float64).T
            rates = np.asarray(eden(config, jnp.asarray(batch), jnp.asarray(epoch)))
            yield Line(case.name, name, float(np.max(np.abs(rates / expected - 1.0))), RATE)


def check_averaging(case: Case) -> Iterator[Line]:
    """The running average after every update, and the mean over a range from two of them."""
    config, io = case.config, case.tensors()
    train = TrainConfig(average="running", average_period=config["average_period"])
    current, steps = _tensors(io, "cur"), config["update_steps"]
    average, averages = {name: jnp.asarray(value[0]) for name, value in current.items()}, []
    for i, step in enumerate(steps):
        average = update_average(train, average, {name: value[i] for name, value in current.items()}, step)
        averages.append(average)
    first, last = config["range"]
    over = range_average(averages[steps.index(first)], first, averages[steps.index(last)], last)
    for name in current:
        running = np.stack([a[name] for a in averages])
        yield compare(case.name, f"avg.{name}", running, io[f"avg.{name}"], AVERAGE, relative=True)
        yield compare(case.name, f"range_avg.{name}", over[name], io[f"range_avg.{name}"], AVERAGE, relative=True)


def _tensors(io: dict[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(f"{kind}."): io[name] for name in sorted(io) if name.startswith(f"{kind}.")}


def _nested(flat: dict[str, Any]) -> dict:
    """Dotted names as nested dictionaries whose leaves come in the same order."""
    tree: dict = {}
    for name, value in flat.items():
        *parents, last = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree


def _run(optimizer: optax.GradientTransformation, params: dict, grads: dict, steps: int) -> tuple[dict, np.ndarray]:
    """Every parameter after 0, 1, ... steps, and the clipping factors by step and group."""
    params = {name: jnp.asarray(value[0]) for name, value in params.items()}
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    trajectories, factors = {name: [np.asarray(value)] for name, value in params.items()}, []
    for i in range(steps):
        now = {name: grads[name][i] if name in grads else np.zeros_like(params[name]) for name in params}
        params, state = step(params, state, now)
        factors.append(np.asarray(state.clipping.factor_G))
        for name, value in params.items():
            trajectories[name].append(np.asarray(value))
    return {name: np.stack(values) for name, values in trajectories.items()}, np.stack(factors)


def _trajectory(case: Case, name: str, actual: np.ndarray, expected: np.ndarray) -> Line:
    """Largest difference relative to the parameter's own size at each step."""
    if actual.shape != expected.shape:
        return Line(case.name, name, math.inf, TRAJECTORY)
    difference = np.abs(actual.astype(np.float64) - expected).reshape(len(expected), -1).max(axis=1)
    size = np.abs(expected.astype(np.float64)).reshape(len(expected), -1).max(axis=1)
    worst = float(np.max(np.where(difference > 0, difference / np.maximum(size, 1e-30), 0.0)))
    return Line(case.name, name, math.inf if math.isnan(worst) else worst, TRAJECTORY)


CHECKS = {
    "eden": check_eden,
    "model_averaging": check_averaging,
    "scaled_adam": check_scaled_adam,
    "scaled_adam_groups": check_groups,
}
