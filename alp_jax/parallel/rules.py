"""Ordered (regex, tactic) rules that give every array of the train state its place on the mesh.

The first rule that matches the whole name wins; a name that no rule matches is an error, so that a new module cannot
be placed by accident. Optimiser statistics end in the name of their parameter and follow it; those of small parameters
are stacked (``alp_jax.optim.stacks``).

The tensor axis splits layers as Megatron-LM does (Shoeybi et al. 2019): the matrix into a wide or many-headed layer by
columns, the one out of it by rows, so that a pair needs one sum over the axis. A dimension that the axis does not
divide stays whole. The fsdp axis splits the largest dimension that is left.
"""

import math
import re
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

REPLICATE = "replicate"
FSDP = "fsdp"  # over fsdp alone
COLUMN = "column"  # outputs, the last dimension, over tensor
ROW = "row"  # inputs, the last dimension but one, over tensor; rows of an embedding table likewise
_TENSOR_DIMENSION = {COLUMN: -1, ROW: -2}

RULES: tuple[tuple[str, str], ...] = (
    (r"seed|step|bad_steps|whitening|opt/(.*/)?(count|\w+_(N|PN|G|GK)|stacked/.*)", REPLICATE),
    # Several projections side by side in one matrix: equal slices of its columns would cut across projections, so the
    # activations are split instead.
    (r".*/(self_attn_weights|nonlin_attention|conv_module\d|convolution)/in_proj/kernel", FSDP),
    (r".*/decoder/layers/\d+/\w+_attn/in_proj/kernel", FSDP),
    (r"(params|average|opt/.*)/encoder/(out_proj|subsampling/out_proj)/kernel", FSDP),
    (r".*/(query|key|value|in_proj|positions/proj|linear_pos|intermediate|linear1|hidden)/kernel", COLUMN),
    (r".*/(output|out_proj|linear2)/kernel", ROW),
    (r".*/convnext/pointwise_conv1/kernel", COLUMN),
    (r".*/convnext/pointwise_conv2/kernel", ROW),
    (r".*/decoder/output_proj/kernel", COLUMN),  # of the vocabulary
    (r".*/(word_embeddings|text_embed)/embedding", ROW),
    (r".*/(kernel|embedding)", FSDP),
    (r".*/(bias|scale|log_scale|bypass_scale|logit_scale|logit_bias|chunkwise_conv_scale)", REPLICATE),
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

    def sharding(path: tuple, leaf: Any) -> NamedSharding:
        return NamedSharding(mesh, spec(tactic(leaf_name(path), rules), leaf.shape, dict(mesh.shape)))

    return jax.tree_util.tree_map_with_path(sharding, shapes)


def tactic(name: str, rules: tuple[tuple[str, str], ...] = RULES) -> str:
    """The tactic of the first rule that matches ``name``.

    Raises:
      ValueError: none does.
    """
    for pattern, chosen in rules:
        if re.fullmatch(pattern, name):
            return chosen
    raise ValueError(f"no sharding rule matches {name}")


def spec(chosen: str, shape: tuple[int, ...], sizes: dict[str, int]) -> PartitionSpec:
    """Where ``chosen`` puts an array of ``shape`` on a mesh with axes of these ``sizes``."""
    if chosen == REPLICATE or math.prod(shape) < MIN_ELEMENTS:
        return PartitionSpec()
    axes: list[str | None] = [None] * len(shape)
    if not undivided(chosen, shape, sizes) and chosen in _TENSOR_DIMENSION and sizes["tensor"] > 1:
        axes[_TENSOR_DIMENSION[chosen]] = "tensor"
    free = [(dim, -i) for i, dim in enumerate(shape) if axes[i] is None and dim % sizes["fsdp"] == 0]
    if free and sizes["fsdp"] > 1:
        axes[-max(free)[1]] = "fsdp"
    return PartitionSpec(*axes)


def undivided(chosen: str, shape: tuple[int, ...], sizes: dict[str, int]) -> bool:
    """Whether ``chosen`` would split a dimension over tensor that the axis does not divide."""
    return chosen in _TENSOR_DIMENSION and shape[_TENSOR_DIMENSION[chosen]] % sizes["tensor"] != 0


def layout(shapes: Any, sizes: dict[str, int]) -> dict[str, dict]:
    """By name of leaf its ``shape``, ``tactic`` and ``spec``, and ``undivided`` where tensor does not divide it."""
    leaves: dict[str, dict[str, Any]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        name = leaf_name(path)
        chosen = tactic(name)
        leaves[name] = {"shape": list(leaf.shape), "tactic": chosen, "spec": list(spec(chosen, leaf.shape, sizes))}
        if undivided(chosen, leaf.shape, sizes):
            leaves[name]["undivided"] = True
    return leaves
