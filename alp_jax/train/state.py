"""The train state: a plain dictionary of arrays, created sharded, never whole on one device."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from alp_jax.parallel.rules import infer_shardings

State = dict[str, Any]


def state_maker(
    init: Callable, apply: Callable, optimizer: optax.GradientTransformation, average: bool = False
) -> Callable[[jax.Array], State]:
    """Returns ``make(seed)``, a fresh state.

    It holds ``params``, ``average`` of them if asked for, ``opt`` (optimiser statistics), ``whitening`` (what the
    encoder's regularisers last measured), ``seed``, ``step`` and ``bad_steps``. The seed is part of the state, so that
    runs which differ in it alone share their compiled programs. ``bad_steps`` counts the steps in a row that were
    skipped because a loss or gradient was not finite.
    """

    def make(seed: jax.Array) -> State:
        # An explicit type: a weakly typed constant would change its type at the first step and compile the step again.
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), init(jax.random.key(seed)))
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

    return make


def state_shapes(make: Callable[[jax.Array], State]) -> State:
    """The state as ShapeDtypeStructs; nothing is computed."""
    return jax.eval_shape(lambda: make(jnp.zeros((), jnp.int32)))


def create_state(make: Callable[[jax.Array], State], seed: int, mesh: Mesh) -> State:
    """A fresh state, sharded."""
    create = jax.jit(make, out_shardings=infer_shardings(state_shapes(make), mesh))
    return create(jnp.asarray(seed, jnp.int32))


def abstract_state(make: Callable[[jax.Array], State], mesh: Mesh) -> State:
    """The state as ShapeDtypeStructs with shardings, what a checkpoint is restored into."""
    shapes = state_shapes(make)
    return jax.tree.map(
        lambda shape, sharding: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding),
        shapes,
        infer_shardings(shapes, mesh),
    )
