"""The one place where devices become a mesh, and where batches and activations find their place on it.

Activations are placed by the names of their dimensions, at the few places that matter: parameters alone do not tell the
compiler enough. With rows of a batch and of a matrix on the same axis it may choose to move the activations, which are
larger. Outside ``on_mesh`` a constraint does nothing.
"""

import contextlib
import contextvars
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from alp_jax.config.schema import MeshConfig
from alp_jax.core.errors import UserError

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")  # a batch is split over both: fsdp shards parameters and examples alike


def make_mesh(config: MeshConfig, devices: list | None = None) -> Mesh:
    """Builds the (data, fsdp, tensor) mesh over ``devices`` (all of them by default).

    With ``dcn_*`` (data centre network) sizes above 1 the devices form slices (TPU slices, GPU nodes, else processes)
    with fast links inside; that many parts of an axis lie in different slices, the rest of it within one.

    Raises:
      UserError: the axes' product is not the number of devices or slices; both numbers are named.
    """
    devices = jax.devices() if devices is None else devices
    sizes = axis_sizes(config, len(devices))
    if max(_dcn(config)) > 1:
        return Mesh(hybrid_devices(sizes, _dcn(config), devices), AXES, axis_types=(AxisType.Auto,) * 3)
    return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def axis_sizes(config: MeshConfig, devices: int) -> tuple[int, int, int]:
    """Devices along data, fsdp and tensor, with -1 resolved.

    Raises:
      UserError: as ``make_mesh``.
    """
    sizes = [config.data, config.fsdp, config.tensor]
    if any(size < 1 and size != -1 for size in sizes) or sizes.count(-1) > 1:
        raise UserError(f"config.mesh: sizes {tuple(sizes)} must be positive, with at most one -1")
    known = math.prod(size for size in sizes if size != -1)
    if -1 in sizes and devices % known == 0:
        sizes[sizes.index(-1)] = devices // known
    if -1 in sizes or math.prod(sizes) != devices:
        raise UserError(
            f"config.mesh: data x fsdp x tensor = {' x '.join(map(str, sizes))} does not cover {devices} devices"
        )
    for axis, size, across in zip(AXES, sizes, _dcn(config), strict=True):
        if across < 1 or size % across:
            raise UserError(f"config.mesh.{axis} = {size} is not a multiple of config.mesh.dcn_{axis} = {across}")
    data, fsdp, tensor = sizes
    return data, fsdp, tensor


def _dcn(config: MeshConfig) -> tuple[int, int, int]:
    return (config.dcn_data, config.dcn_fsdp, config.dcn_tensor)


def hybrid_devices(sizes: tuple[int, ...], across: tuple[int, ...], devices: list) -> np.ndarray:
    """Devices by axis, ``across`` of the ``sizes`` over slices.

    Raises:
      UserError: the number of slices is not the product of ``across``.
    """
    slices = {getattr(device, "slice_index", 0) for device in devices}
    by_process = len(slices) == 1
    if by_process:
        slices = {device.process_index for device in devices}
    if len(slices) != math.prod(across):
        raise UserError(
            f"config.mesh: dcn_data x dcn_fsdp x dcn_tensor = {' x '.join(map(str, across))} does not match the "
            f"{len(slices)} {'processes' if by_process else 'slices'} of {len(devices)} devices"
        )
    within = tuple(size // parts for size, parts in zip(sizes, across, strict=True))
    return mesh_utils.create_hybrid_device_mesh(within, across, devices, process_is_granule=by_process)


def batch_shards(mesh: Mesh) -> int:
    """Number of parts a global batch is split into."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def batch_part(mesh: Mesh) -> tuple[int, int]:
    """(part, parts): which part of the rows of every global batch this process has to read.

    Processes that share rows, because the tensor axis spans them, read the same part.

    Raises:
      UserError: the rows of some process are not one such part; the mesh has to be arranged differently.
    """
    grid = mesh.devices.reshape(batch_shards(mesh), -1)
    rows_of: dict[int, set[int]] = {}
    for row, devices in enumerate(grid):
        for device in devices:
            rows_of.setdefault(device.process_index, set()).add(row)
    size = len(rows_of[jax.process_index()])
    if any(len(rows) != size or min(rows) % size or max(rows) - min(rows) + 1 != size for rows in rows_of.values()):
        raise UserError(
            f"config.mesh: data x fsdp = {mesh.shape['data']} x {mesh.shape['fsdp']} does not give each of "
            f"{jax.process_count()} processes an equal stretch of the batch; change config.mesh.dcn_* or the axes"
        )
    return min(rows_of[jax.process_index()]) // size, len(grid) // size


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over the data and fsdp axes, everything else whole."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows (``batch_part``) of a global batch as global arrays, split over the mesh.

    Raises:
      UserError: the global number of rows is not a multiple of the number of shards.
    """
    rows = next(iter(batch.values())).shape[0] * batch_part(mesh)[1]
    if rows % batch_shards(mesh):
        raise UserError(
            f"a batch of {rows} clips cannot be split over {batch_shards(mesh)} devices: "
            f"make config.data.clips_multiple a multiple of {batch_shards(mesh)}"
        )
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, value, (rows, *value.shape[1:]))
        for name, value in batch.items()
    }


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
    "draws": (),  # of a whole step; every module takes its own from them
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
    """Into how many parts the mesh divides a batch of ``rows``; one outside ``on_mesh`` or where it stays whole."""
    mesh = _mesh.get()
    return 1 if mesh is None or not divides("batch", rows) else batch_shards(mesh)


def for_each_part(weight: jax.Array, parts: int, *names: str) -> jax.Array:
    """(parts, *weight.shape): a copy of the weight for every part of the rows, placed where those rows are.

    An array computed from a weight alone has a gradient summed over all rows. Where it is larger than the weight,
    computing it once for all parts makes the large sum travel between devices; from these copies, the weight's does.
    """
    return constrain(jnp.broadcast_to(weight, (parts, *weight.shape)), "part", *names)
