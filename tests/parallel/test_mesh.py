"""Meshes cover the devices or say why not; batches are split over them."""

import jax
import numpy as np
import pytest

from alp_jax.config.schema import MeshConfig
from alp_jax.core.errors import UserError
from alp_jax.parallel.mesh import make_mesh, put_batch


@pytest.mark.parametrize(
    ("config", "shape"),
    [(MeshConfig(), (8, 1, 1)), (MeshConfig(2, 4, 1), (2, 4, 1)), (MeshConfig(-1, 2, 2), (2, 2, 2))],
)
def test_shapes(config, shape):
    assert tuple(make_mesh(config).shape.values()) == shape


@pytest.mark.parametrize("config", [MeshConfig(3, 1, 1), MeshConfig(16, 1, 1), MeshConfig(-1, 3, 1)])
def test_a_mesh_that_does_not_fit_names_both_numbers(config):
    with pytest.raises(UserError, match=r"config\.mesh.*8 devices"):
        make_mesh(config)


@pytest.mark.parametrize("config", [MeshConfig(-1, -1, 1), MeshConfig(0, 8, 1)])
def test_bad_sizes_are_refused(config):
    with pytest.raises(UserError, match=r"config\.mesh"):
        make_mesh(config)


def test_batches_are_split_over_data_and_fsdp():
    mesh = make_mesh(MeshConfig(4, 2, 1))
    array = put_batch({"x": np.arange(16)}, mesh)["x"]
    assert [s.data.shape for s in array.addressable_shards] == [(2,)] * 8
    assert np.asarray(array).tolist() == list(range(16))


def test_an_indivisible_batch_names_the_knob():
    with pytest.raises(UserError, match=r"12 clips.*8 devices.*clips_multiple"):
        put_batch({"x": np.arange(12)}, make_mesh(MeshConfig()))


def test_every_leaf_must_match_a_rule():
    from alp_jax.parallel.rules import infer_shardings

    mesh = make_mesh(MeshConfig(1, 8, 1))
    tree = {"params": {"a": {"kernel": jax.ShapeDtypeStruct((24, 4096), np.float32)}}}
    tree["opt"] = {"mu": tree["params"], "count": jax.ShapeDtypeStruct((), np.int32)}
    specs = infer_shardings(tree, mesh)
    assert tuple(specs["params"]["a"]["kernel"].spec) == (None, "fsdp")
    assert tuple(specs["opt"]["mu"]["a"]["kernel"].spec) == (None, "fsdp")
    with pytest.raises(ValueError, match="params/a/surprise"):
        infer_shardings({"params": {"a": {"surprise": jax.ShapeDtypeStruct((3,), np.float32)}}}, mesh)
