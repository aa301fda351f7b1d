"""The train state: a plain dictionary of arrays, created sharded, never whole on one device."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from alp_jax.parallel.rules import infer_shardings

State = dict[str, Any]


def state_shapes(init: Callable, optimizer: optax.GradientTransformation) -> State:
    """The state as ShapeDtypeStructs; nothing is computed."""
    return jax.eval_shape(lambda: _make(init, optimizer, jnp.zeros((), jnp.int32)))


def create_state(init: Callable, optimizer: optax.GradientTransformation, seed: int, mesh: Mesh) -> State:
    """A fresh state: ``params``, ``opt`` (optimiser statistics), ``seed``, ``step`` and ``bad_steps``.

    The seed is part of the state, so that runs which differ in it alone share their compiled programs. ``bad_steps``
    counts the steps in a row that were skipped because a loss or gradient was not finite.
    """
    shardings = infer_shardings(state_shapes(init, optimizer), mesh)
    create = jax.jit(lambda seed: _make(init, optimizer, seed), out_shardings=shardings)
    return create(jnp.asarray(seed, jnp.int32))


def abstract_state(init: Callable, optimizer: optax.GradientTransformation, mesh: Mesh) -> State:
    """The state as ShapeDtypeStructs with shardings, what a checkpoint is restored into."""
    shapes = state_shapes(init, optimizer)
    return jax.tree.map(
        lambda shape, sharding: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding),
        shapes,
        infer_shardings(shapes, mesh),
    )


def _make(init: Callable, optimizer: optax.GradientTransformation, seed: jax.Array) -> State:
    # An explicit type: a weakly typed constant would change its type at the first step and compile the step again.
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), init(jax.random.key(seed)))
    zero = jnp.zeros((), jnp.int32)
    return {"params": params, "opt": optimizer.init(params), "seed": seed, "step": zero, "bad_steps": zero}
