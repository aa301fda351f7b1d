"""One training step: waveforms to features to loss to new state, as one compiled function per bucket.

A batch may go through the model in parts. A contrastive loss depends on all embeddings of a batch at once, so summing
the losses of its parts would compare fewer pairs. Instead all parts go through the model without gradients, the loss is
differentiated by their embeddings, and every part goes through once more to carry its share of that gradient to the
parameters (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"). Memory for
activations is that of one part. Loss and gradient are those of the whole batch. What the model draws is not: each part
has a key of its own, and the encoder's regularisers measure its rows alone, so a run in other parts is another run.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from alp_jax.config.schema import RunConfig
from alp_jax.core.errors import UserError
from alp_jax.core.target import backend
from alp_jax.features.logmel import log_mel
from alp_jax.features.spec_augment import spec_augment
from alp_jax.models.regularisers import TrainInputs
from alp_jax.objectives.base import Arrays, Objective, Reduced
from alp_jax.optim.optimizer import learning_rate, update_average
from alp_jax.optim.stacks import global_norm
from alp_jax.parallel.mesh import BATCH_AXES, batch_sharding, batch_shards, on_mesh, replicated
from alp_jax.train.state import State

STEP_METRICS = ("loss", "grad_norm", "bad_steps", "learning_rate")  # beside those of the objective


def batch_count(step: jax.Array, rate: float) -> jax.Array:
    """What the encoder's schedules read: as in the reference, raised by ten before every tenth step, up to 100,000."""
    return jnp.minimum(10.0 * (step // 10 + 1) * rate, 100_000.0)


def make_train_step(
    apply: Callable[..., Any],
    objective: Objective,
    optimizer: optax.GradientTransformation,
    config: RunConfig,
    mesh: Mesh,
    shardings: Any,
) -> jax.stages.Wrapped:
    """Returns the jitted ``step(state, batch) -> (state, metrics)``; the old state is donated.

    All randomness is ``fold_in(seed, step)``, both out of the state. A step whose loss or gradient is not finite leaves
    parameters and optimiser as they were and is counted in ``bad_steps``. Metrics are float32 scalars on device; the
    learning rate among them is the one that this step took, before ``config.optim.lr_scale``.
    """

    features, rows = config.features, batch_sharding(mesh).spec
    rate = learning_rate(config.optim, config.train.steps)
    platform = backend(jax.default_backend)

    # XLA does not split Fourier transforms over rows by itself: every device would gather and transform all rows.
    @partial(jax.shard_map, mesh=mesh, in_specs=(rows, rows), out_specs=(rows, rows))
    def mel_of_rows(audio_BS: jax.Array, audio_len_B: jax.Array) -> tuple[jax.Array, jax.Array]:
        return log_mel(audio_BS, audio_len_B, features, platform)

    def step(state: State, batch: Arrays) -> tuple[State, Arrays]:
        # From the seed and the step's number alone, so that a run resumed here draws what it would have drawn.
        key = jax.random.fold_in(jax.random.key(state["seed"]), state["step"])
        augment_key, objective_key, model_key = jax.random.split(key, 3)
        inputs = objective.prepare(batch, objective_key)

        def reduced(params: Arrays, whitening: jax.Array, rows: Arrays, key: jax.Array) -> Reduced:
            mel_BTF, len_B = mel_of_rows(rows["audio"], rows["audio_len"])
            # One key for all parts, and the row's number in the batch: a row is augmented alike however it is cut.
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
        grads = lax.with_sharding_constraint(grads, shardings["params"])
        grad_norm = global_norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        updates, opt = optimizer.update(grads, state["opt"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        new = {"params": params, "opt": opt, "whitening": state["whitening"] + whitening_change}
        # Chosen leaf by leaf and not by a condition on the host: nothing waits to learn whether the step was finite.
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
        # Of the old optimiser state: the new one already counts this update.
        metrics["learning_rate"] = jnp.asarray(rate(_updates_taken(state["opt"])))
        return new_state, jax.tree.map(lambda x: x.astype(jnp.float32), metrics)

    return jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
    )


def _updates_taken(opt_state: Any) -> jax.Array:
    """How many updates an optimiser of ``make_optimizer`` has taken, int32: skipped steps do not count."""
    return optax.tree_utils.tree_get_all_with_path(opt_state, "count")[0][1]


def value_and_grad(
    reduced: Callable[..., Reduced], objective: Objective, parts: int, mesh: Mesh
) -> Callable[..., tuple[tuple[jax.Array, Arrays], tuple[Arrays, jax.Array]]]:
    """What differentiates the loss of a batch, ``parts`` parts of it one after the other.

    Args:
      reduced: (params, whitening, rows, key) -> ``Reduced``; ``rows`` is any part of the rows handed to the result.
      objective: whose ``combine`` makes the loss.
      parts: in how many a batch is cut; every part has a ``key`` of its own, and what it measures for ``whitening`` is
        averaged.
      mesh: every device cuts its own rows.

    Returns:
      (params, whitening, rows, inputs, batch, key) -> ((loss, metrics), (grads, whitening_change)); calling it raises
      UserError for a batch that cannot be cut so.
    """

    def whole(
        params: Arrays, whitening: jax.Array, rows: Arrays, inputs: Any, batch: Arrays, key: jax.Array
    ) -> tuple[tuple[jax.Array, Arrays], tuple[Arrays, jax.Array]]:
        def loss(params: Arrays, whitening: jax.Array) -> tuple[jax.Array, Arrays]:
            return objective.combine(reduced(params, whitening, rows, key), inputs, batch)

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, whitening)

    def in_parts(
        params: Arrays, whitening: jax.Array, rows: Arrays, inputs: Any, batch: Arrays, key: jax.Array
    ) -> tuple[tuple[jax.Array, Arrays], tuple[Arrays, jax.Array]]:
        cut_rows, numbers = _cut(rows, parts, mesh), jnp.arange(parts)

        def of_part(params: Arrays, whitening: jax.Array, rows: Arrays, number: jax.Array) -> Reduced:
            return reduced(params, whitening, rows, jax.random.fold_in(key, number))

        def combined(known: Reduced) -> tuple[jax.Array, Arrays]:
            return objective.combine(known, inputs, batch)

        def forward(_: None, part: tuple[Arrays, jax.Array]) -> tuple[None, Reduced]:
            return None, of_part(params, whitening, *part)

        known = jax.eval_shape(lambda: lax.scan(forward, None, (cut_rows, numbers))[1])
        # The gradient of a loss that is not coupled is the same everywhere, so it is taken where nothing is known yet.
        known = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), known)
        if objective.coupled:
            known = lax.scan(forward, None, (cut_rows, numbers))[1]
        by_rows, by_scalars = jax.grad(combined, has_aux=True)(_joined(known, mesh))[0]
        # Every part sends the scalars' gradient back once, so that their sum is the whole one.
        by_scalars = jax.tree.map(lambda gradient: gradient / parts, by_scalars)

        def backward(sums: Any, part: tuple[Arrays, jax.Array, Arrays]) -> tuple[Any, Reduced]:
            rows, number, by_rows = part
            # The same key again: with another dropout this would differentiate outputs that the loss never saw.
            known, pull = jax.vjp(lambda params, whitening: of_part(params, whitening, rows, number), params, whitening)
            return jax.tree.map(jnp.add, sums, pull(Reduced(by_rows, by_scalars))), known

        zeros = jax.tree.map(jnp.zeros_like, (params, whitening))
        cut = (cut_rows, numbers, _cut(by_rows, parts, mesh))
        (grads, change), known = lax.scan(backward, zeros, cut)
        return combined(_joined(known, mesh)), (grads, change / parts)

    return whole if parts == 1 else in_parts


def _cut(tree: Any, parts: int, mesh: Mesh) -> Any:
    """Arrays (B, ...) as (parts, B / parts, ...): of the rows of each device, so that none has to move."""
    devices = batch_shards(mesh)
    sharding = NamedSharding(mesh, PartitionSpec(None, BATCH_AXES))

    def cut(x: jax.Array) -> jax.Array:
        if x.shape[0] % (devices * parts):
            raise UserError(
                f"a batch of {x.shape[0]} clips cannot be split into config.train.accumulate={parts} parts on "
                f"{devices} devices: make config.data.clips_multiple a multiple of {devices * parts}"
            )
        split = x.reshape(devices, parts, -1, *x.shape[1:]).swapaxes(0, 1)
        return lax.with_sharding_constraint(split.reshape(parts, -1, *x.shape[1:]), sharding)

    return jax.tree.map(cut, tree)


def _joined(known: Reduced, mesh: Mesh) -> Reduced:
    """The rows of all parts in the order of the batch; scalars are the same in all parts."""
    devices, sharding = batch_shards(mesh), NamedSharding(mesh, PartitionSpec(BATCH_AXES))

    def join(x: jax.Array) -> jax.Array:
        split = x.reshape(x.shape[0], devices, -1, *x.shape[2:]).swapaxes(0, 1)
        return lax.with_sharding_constraint(split.reshape(-1, *x.shape[2:]), sharding)

    return Reduced(jax.tree.map(join, known.rows), jax.tree.map(lambda x: x[0], known.scalars))
