"""Where activations lie on the mesh, said by the names of their dimensions at the few places that matter.

Parameters alone do not tell the compiler enough: with rows of a batch and of a matrix on the same axis it may choose
to move the activations, which are the larger. Outside of ``on_mesh`` a constraint does nothing.
"""

import contextlib
import contextvars
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from alp_jax.parallel.mesh import BATCH_AXES, batch_shards

# name of a dimension -> axes of the mesh it is split over
AXES_OF: dict[str, tuple[str, ...]] = {
    "batch": BATCH_AXES,
    "part": BATCH_AXES,  # of the rows, see ``row_parts``
    "time": (),
    "bins": (),  # of frequency
    "width": (),  # of the residual stream
    "hidden": ("tensor",),  # of a feed-forward module, channels of a convolution module
    "heads": ("tensor",),
    "vocab": ("tensor",),
    "each": (),  # per head
    "draws": (),  # of a whole step, which every module takes its own from
}

_mesh: contextvars.ContextVar[Mesh | None] = contextvars.ContextVar("mesh", default=None)


@contextlib.contextmanager
def on_mesh(mesh: Mesh) -> Iterator[None]:
    """Constraints made inside, while a function is traced, hold on ``mesh``."""
    token = _mesh.set(mesh)
    try:
        yield
    finally:
        _mesh.reset(token)


def constrain(x: jax.Array, *names: str) -> jax.Array:
    """``x``, whose dimensions have these names, at its place; a dimension that its axes do not divide stays whole.

    Raises:
      ValueError: not one name per dimension.
      KeyError: a name that ``AXES_OF`` does not have.
    """
    if len(names) != x.ndim:
        raise ValueError(f"{len(names)} names {names} for {x.ndim} dimensions")
    mesh = _mesh.get()
    if mesh is None or mesh.size == 1:
        return x
    axes = [
        AXES_OF[name] if AXES_OF[name] and divides(name, size) else None
        for name, size in zip(names, x.shape, strict=True)
    ]
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(*axes)))


def divides(name: str, size: int) -> bool:
    """Whether the axes of the dimension ``name`` divide ``size``; always true outside of ``on_mesh``."""
    mesh = _mesh.get()
    return mesh is None or size % math.prod(mesh.shape[axis] for axis in AXES_OF[name]) == 0


def row_parts(rows: int) -> int:
    """In how many parts a batch of ``rows`` lies on the mesh; one outside of ``on_mesh`` or where it stays whole."""
    mesh = _mesh.get()
    return 1 if mesh is None or not divides("batch", rows) else batch_shards(mesh)


def for_each_part(weight: jax.Array, parts: int, *names: str) -> jax.Array:
    """(parts, *weight.shape): the same for every part of the rows, each where its rows are.

    What is made of a weight alone, and larger than it, has a gradient that is summed over all rows. Made once for all
    parts, the large sum travels between devices; made of these copies, the weight's own.
    """
    return constrain(jnp.broadcast_to(weight, (parts, *weight.shape)), "part", *names)
