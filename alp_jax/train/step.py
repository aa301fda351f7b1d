"""One training step: waveforms to features to loss to new state, as one compiled function per bucket."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from alp_jax.config.schema import RunConfig
from alp_jax.features.logmel import log_mel
from alp_jax.features.spec_augment import spec_augment
from alp_jax.models.regularisers import TrainInputs
from alp_jax.objectives.base import Objective
from alp_jax.optim.optimizer import learning_rate, update_average, updates_taken
from alp_jax.optim.stacks import global_norm
from alp_jax.parallel.mesh import batch_sharding, on_mesh, replicated
from alp_jax.train.accumulate import value_and_grad
from alp_jax.train.state import State


def batch_count(step: jax.Array, rate: float) -> jax.Array:
    """What the encoder's schedules read: as in the reference, raised by ten before every tenth step, up to 100,000."""
    return jnp.minimum(10.0 * (step // 10 + 1) * rate, 100_000.0)


def make_train_step(
    apply: Callable,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    config: RunConfig,
    mesh: Mesh,
    shardings: Any,
) -> Callable[[State, dict], tuple[State, dict]]:
    """Returns the jitted ``step(state, batch) -> (state, metrics)``; the old state is donated.

    All randomness is ``fold_in(seed, step)``, both out of the state. A step whose loss or gradient is not finite leaves
    parameters and optimiser as they were and is counted in ``bad_steps``. Metrics are float32 scalars on device; the
    learning rate among them is the one that this step took, before ``config.optim.lr_scale``.
    """

    features, rows = config.features, batch_sharding(mesh).spec
    rate = learning_rate(config.optim, config.train.steps)

    # XLA does not split Fourier transforms over rows by itself: every device would gather and transform all of them.
    @partial(jax.shard_map, mesh=mesh, in_specs=(rows, rows), out_specs=(rows, rows))
    def mel_of_rows(audio_BS, audio_len_B):
        return log_mel(audio_BS, audio_len_B, features)

    def step(state: State, batch: dict) -> tuple[State, dict]:
        key = jax.random.fold_in(jax.random.key(state["seed"]), state["step"])
        augment_key, objective_key, model_key = jax.random.split(key, 3)
        inputs = objective.prepare(batch, objective_key)

        def reduced(params, whitening, rows, key):
            mel_BTF, len_B = mel_of_rows(rows["audio"], rows["audio_len"])
            mel_BTF = spec_augment(mel_BTF, len_B, augment_key, features.spec_augment, row_B=rows["row"])
            train = TrainInputs(key, batch_count(state["step"], config.train.batch_count_rate), whitening)
            with on_mesh(mesh):
                outputs = apply(params, mel_BTF, len_B, rows["inputs"], train=train)
            return objective.reduce(outputs, rows["inputs"])

        rows = {name: batch[name] for name in ("audio", "audio_len")}
        rows |= {"row": jnp.arange(len(batch["audio"])), "inputs": inputs}
        differentiate = value_and_grad(reduced, objective, config.train.accumulate, mesh)
        (loss, metrics), (grads, whitening_change) = differentiate(
            state["params"], state["whitening"], rows, inputs, batch, model_key
        )
        # What the optimiser does with arrays side by side must not decide where the backward pass keeps its own.
        grads = jax.lax.with_sharding_constraint(grads, shardings["params"])
        grad_norm = global_norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        updates, opt = optimizer.update(grads, state["opt"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        new = {"params": params, "opt": opt, "whitening": state["whitening"] + whitening_change}
        new = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, {name: state[name] for name in new})
        if "average" in state:  # of a skipped step too: a running average must not miss one that is due
            new["average"] = update_average(config.train, state["average"], new["params"], state["step"] + 1)
        new_state = {
            **new,
            "seed": state["seed"],
            "step": state["step"] + 1,
            "bad_steps": jnp.where(finite, 0, state["bad_steps"] + 1),
        }
        metrics = {**metrics, "loss": loss, "grad_norm": grad_norm, "bad_steps": new_state["bad_steps"]}
        metrics["learning_rate"] = jnp.asarray(rate(updates_taken(state["opt"])))
        return new_state, jax.tree.map(lambda x: x.astype(jnp.float32), metrics)

    return jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
    )
