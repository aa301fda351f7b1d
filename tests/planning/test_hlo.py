"""The reader of HLO against programs whose traffic is known: written by hand, and compiled from a few lines."""

import pathlib

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from alp_jax.config.schema import MeshConfig
from alp_jax.parallel.mesh import make_mesh
from alp_jax.planning.hlo import parse, shape_bytes
from alp_jax.planning.traffic import traffic

PLANTED = (pathlib.Path(__file__).parent / "planted.hlo").read_text(encoding="utf-8")
SMALL = 32 * 64 * 2  # bytes of bf16[32,64]


def test_planted_kernels_move_what_they_must():
    most, least = traffic(PLANTED)
    found = most.by_kind()
    assert found["call __cublas$gemm"] == {"bytes": SMALL + 64 * 64 * 2 + SMALL, "kernels": 1}  # without scratch
    # a hundred times a row out of the table (and the row number), and a row back into it
    assert found["fusion loop"] == {"bytes": 100 * (2 * 256 + 4) + 100 * (2 * 256 + 4), "kernels": 200}
    # the dearer branch, and a copy into on-chip memory, which only reads
    assert found["copy"] == {"bytes": 2 * 2 * SMALL + SMALL, "kernels": 3}
    assert most.launches == 1 + 200 + 3 + 4
    assert (most.bytes - least.bytes, most.launches - least.launches) == (2 * SMALL, 1)
    assert most.largest(1)[0].source == "train/step.py:60 read a row"  # the line of this package that is nearest


def test_planted_collectives_are_sent_in_rings():
    found = {one.kind: one for one in traffic(PLANTED)[0].collectives}
    assert {kind: one.size for kind, one in found.items()} == {
        "all-reduce": SMALL,
        "all-gather": 4 * SMALL,
        "reduce-scatter": SMALL,
        "collective-permute": SMALL,
    }
    assert {kind: one.wire_bytes for kind, one in found.items()} == {
        "all-reduce": 1.5 * SMALL,
        "all-gather": 3 * SMALL,
        "reduce-scatter": 3 * SMALL,
        "collective-permute": SMALL,
    }
    assert [found[kind].group for kind in ("all-reduce", "all-gather", "reduce-scatter", "collective-permute")] == [
        (0, 1, 2, 3),
        (0, 2, 4, 6),
        (0, 2, 4, 6),
        (0, 4),
    ]


def test_sizes_of_shapes():
    assert shape_bytes("f32[2,3]{1,0}") == 24
    assert shape_bytes("(bf16[4]{0}, pred[], c64[2]{0})") == 8 + 1 + 16
    assert shape_bytes("f32[8,128]{1,0:T(8,128)S(1)}") == 0
    assert shape_bytes("f32[8,128]{1,0:T(8,128)S(1)}", fast_memory=True) == 4096


def test_text_that_is_no_module_is_refused():
    with pytest.raises(ValueError, match="ENTRY"):
        parse("a letter")


def test_a_compiled_sum_over_devices_is_found():
    """A matrix product whose contracted axis is split over 8 devices ends in one sum of its result."""
    mesh = make_mesh(MeshConfig(data=8))
    split, whole = (NamedSharding(mesh, spec) for spec in (PartitionSpec(None, "data"), PartitionSpec("data")))
    product = jax.jit(jnp.matmul, in_shardings=(split, whole), out_shardings=NamedSharding(mesh, PartitionSpec()))
    shapes = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((16, 512), (512, 32)))
    found, _ = traffic(product.lower(*shapes).compile().as_text(), 8)
    assert found.collectives_by_kind() == {
        "all-reduce": {"bytes": 16 * 32 * 4, "wire_bytes": 2 * 7 / 8 * 16 * 32 * 4, "count": 1}
    }
    assert found.bytes >= (16 * 64 + 64 * 32 + 16 * 32) * 4  # both parts in, the product out
