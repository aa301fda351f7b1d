"""Ordered (regex, tactic) rules that give every array of the train state its place on the mesh.

The first rule that matches the whole name wins; a name that no rule matches is an error, so that a new module cannot
be placed by accident. Optimiser statistics end in the name of their parameter and follow it.
"""

import re
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

REPLICATE = "replicate"
FSDP = "fsdp"  # split the largest dimension that the fsdp axis divides

RULES: tuple[tuple[str, str], ...] = (
    (r"(seed|step|bad_steps|whitening|opt/.*(count|_N|_PN|_G|_GK))", REPLICATE),
    (r".*/(kernel|embedding)", FSDP),
    (r".*/(bias|scale|log_scale|bypass_scale|logit_scale|chunkwise_conv_scale)", REPLICATE),
    (r"params/logit_scale", REPLICATE),
)
# Splitting small arrays costs a collective each and saves nothing.
MIN_ELEMENTS = 2**12


def leaf_name(path: tuple) -> str:
    """``params/encoder/.../kernel`` for the path of a leaf."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def infer_shardings(shapes: Any, mesh: Mesh, rules: tuple[tuple[str, str], ...] = RULES) -> Any:
    """A NamedSharding for every leaf of ``shapes`` (arrays or ShapeDtypeStructs).

    Raises:
      ValueError: a leaf that no rule matches; the message is its name.
    """

    def place(path, leaf):
        name = leaf_name(path)
        for pattern, tactic in rules:
            if re.fullmatch(pattern, name):
                return NamedSharding(mesh, _spec(tactic, leaf.shape, mesh))
        raise ValueError(f"no sharding rule matches {name}")

    return jax.tree_util.tree_map_with_path(place, shapes)


def _spec(tactic: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    size = mesh.shape["fsdp"]
    elements = 1
    for dim in shape:
        elements *= dim
    divisible = [(dim, -axis) for axis, dim in enumerate(shape) if dim % size == 0]
    if tactic == REPLICATE or size == 1 or elements < MIN_ELEMENTS or not divisible:
        return PartitionSpec()
    axis = -max(divisible)[1]
    return PartitionSpec(*("fsdp" if i == axis else None for i in range(len(shape))))
