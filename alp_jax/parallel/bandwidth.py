"""How fast the devices of a mesh add up one array, which is what a training step waits for."""

import statistics
import time

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from alp_jax.parallel.mesh import AXES


def all_reduce(mesh: Mesh, megabytes: float, repeats: int = 5) -> dict | None:
    """Times the sum over all devices of an array of ``megabytes`` on each; None on one device.

    Returns ``megabytes``, ``seconds`` (the median after a first run) and ``gb_per_s``: bytes that a ring sends out of
    each device, 2 (n - 1) / n of the array, per second.
    """
    if mesh.size == 1:
        return None
    rows = round(megabytes * 2**20 / 4)
    split = NamedSharding(mesh, PartitionSpec(AXES))

    @jax.jit
    def add_up(x_N: jax.Array) -> jax.Array:
        return jax.shard_map(
            lambda part: jax.lax.psum(part, AXES), mesh=mesh, in_specs=PartitionSpec(AXES), out_specs=PartitionSpec()
        )(x_N)

    x_N = jax.jit(lambda: jnp.ones(rows * mesh.size, jnp.float32), out_shardings=split)()
    jax.block_until_ready(add_up(x_N))
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(add_up(x_N))
        times.append(time.perf_counter() - began)
    seconds = statistics.median(times)
    sent = 2 * (mesh.size - 1) / mesh.size * rows * 4
    return {"megabytes": megabytes, "seconds": round(seconds, 6), "gb_per_s": round(sent / seconds / 1e9, 3)}
