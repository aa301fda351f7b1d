"""Work on the independent rows of a batch, split over the devices of this process."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

_AXIS = "rows"


def over_rows(function: Callable, devices: list | None = None) -> Callable:
    """``function(shared, *arrays)``, jitted, with the first axis of ``arrays`` and of every result split over devices.

    Rows are padded with zeros to a multiple of the devices, and the results of padding are dropped.

    Args:
      function: must treat every row independently; ``shared`` is replicated on every device.
      devices: by default those of this process.
    """
    devices = jax.local_devices() if devices is None else devices
    if len(devices) == 1:
        return jax.jit(function)
    rows = PartitionSpec(_AXIS)
    mesh = Mesh(np.array(devices), (_AXIS,))

    def each(shared: Any, arrays: tuple) -> Any:
        return function(shared, *arrays)

    split = jax.jit(jax.shard_map(each, mesh=mesh, in_specs=(PartitionSpec(), rows), out_specs=rows, check_vma=False))

    def call(shared: Any, *arrays: jax.Array) -> Any:
        count = len(arrays[0])
        lacking = -count % len(devices)
        padded = tuple(jnp.pad(array, [(0, lacking)] + [(0, 0)] * (array.ndim - 1)) for array in arrays)
        return jax.tree.map(lambda x: x[:count] if lacking else x, split(shared, padded))

    return call
