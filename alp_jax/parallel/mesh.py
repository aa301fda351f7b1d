"""The one place where devices become a mesh and batches find their place on it."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from alp_jax.config.schema import MeshConfig
from alp_jax.core.errors import UserError

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")  # a batch is split over both: fsdp shards parameters and examples alike


def make_mesh(config: MeshConfig, devices: list | None = None) -> Mesh:
    """Builds the (data, fsdp, tensor) mesh over ``devices`` (all of them by default).

    Raises:
      UserError: the axes do not multiply to the number of devices; both numbers are named.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [config.data, config.fsdp, config.tensor]
    if any(size < 1 and size != -1 for size in sizes) or sizes.count(-1) > 1:
        raise UserError(f"config.mesh: sizes {tuple(sizes)} must be positive, with at most one -1")
    known = int(np.prod([size for size in sizes if size != -1]))
    if -1 in sizes and len(devices) % known == 0:
        sizes[sizes.index(-1)] = len(devices) // known
    if -1 in sizes or int(np.prod(sizes)) != len(devices):
        raise UserError(f"config.mesh: data x fsdp x tensor = {tuple(sizes)} does not cover {len(devices)} devices")
    return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def batch_shards(mesh: Mesh) -> int:
    """Number of parts a global batch is split into."""
    return int(np.prod([mesh.shape[axis] for axis in BATCH_AXES]))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over the data and fsdp axes, everything else whole."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This host's rows of a global batch as global arrays, split over the mesh.

    Raises:
      UserError: the global number of rows is not a multiple of the number of shards.
    """
    rows = next(iter(batch.values())).shape[0] * jax.process_count()
    if rows % batch_shards(mesh):
        raise UserError(
            f"a batch of {rows} clips cannot be split over {batch_shards(mesh)} devices: "
            f"make config.data.clips_multiple a multiple of {batch_shards(mesh)}"
        )
    sharding = batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, value) for name, value in batch.items()}
