"""The train state: a plain dictionary of arrays, created sharded, never whole on one device."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from alp_jax.parallel.mesh import replicated
from alp_jax.parallel.rules import infer_shardings

State = dict[str, Any]


def state_maker(
    init: Callable, apply: Callable, optimizer: optax.GradientTransformation, average: bool = False
) -> Callable[..., State]:
    """Returns ``make(seed, start={})``, which makes a fresh state; ``start`` holds parameters that do not start fresh.

    It holds ``params``, ``average`` of them if asked for, ``opt`` (optimiser statistics), ``whitening`` (what the
    encoder's regularisers last measured), ``seed``, ``step`` and ``bad_steps``. The seed is part of the state, so that
    runs which differ in it alone share their compiled programs. ``bad_steps`` counts the steps in a row that were
    skipped because a loss or gradient was not finite.
    """

    def make(seed: jax.Array, start: dict[str, Any] | None = None) -> State:
        # An explicit type: a weakly typed constant would change its type at the first step and compile the step again.
        fresh = init(jax.random.key(seed)) | (start or {})
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), fresh)
        zero = jnp.zeros((), jnp.int32)
        return {
            "params": params,
            **({"average": params} if average else {}),
            "opt": optimizer.init(params),
            "whitening": apply(params, method="start_whitening"),
            "seed": seed,
            "step": zero,
            "bad_steps": zero,
        }

    # Compiled or not, it is traced once: whoever asks for shapes first and for a state later builds the model once.
    return jax.jit(make)


def state_shapes(make: Callable[..., State]) -> State:
    """The state as ShapeDtypeStructs; nothing is computed."""
    return jax.eval_shape(make, jax.ShapeDtypeStruct((), jnp.int32), {})


def create_state(make: Callable[..., State], seed: int, mesh: Mesh, start: dict[str, Any] | None = None) -> State:
    """A fresh state, in which every array is created shard by shard in its place, never whole on one device.

    Args:
      make: from ``state_maker``.
      seed: of the fresh parameters and of the run.
      start: parts of the parameters (host arrays by name) that do not start fresh.
    """
    shardings = infer_shardings(state_shapes(make), mesh)

    def put(host: np.ndarray, sharding: jax.sharding.Sharding) -> jax.Array:
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    placed = {part: jax.tree.map(put, arrays, shardings["params"][part]) for part, arrays in (start or {}).items()}
    part_shardings = {part: shardings["params"][part] for part in placed}
    create = jax.jit(make, in_shardings=(replicated(mesh), part_shardings), out_shardings=shardings)
    return create(np.int32(seed), placed)


def abstract_state(make: Callable[..., State], mesh: Mesh) -> State:
    """The state as ShapeDtypeStructs with shardings, what a checkpoint is restored into."""
    shapes = state_shapes(make)
    return jax.tree.map(
        lambda shape, sharding: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding),
        shapes,
        infer_shardings(shapes, mesh),
    )
