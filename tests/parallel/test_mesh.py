"""Meshes cover the devices or say why not; batches are split over them."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.config.schema import MeshConfig
from alp_jax.core.errors import UserError
from alp_jax.models.zipformer.frontend import depthwise1d
from alp_jax.parallel.mesh import constrain, hybrid_devices, make_mesh, on_mesh, put_batch


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


def slices(count, per_slice):
    """Stands in for accelerators of ``count`` slices; what arranges devices reads no more of them."""
    return [
        types.SimpleNamespace(id=i, platform="gpu", device_kind="gpu", process_index=i // per_slice, slice_index=s)
        for s in range(count)
        for i in range(s * per_slice, (s + 1) * per_slice)
    ]


def test_slices_lie_along_the_axis_that_is_said_to_cross_them():
    grid = hybrid_devices((8, 2, 1), (4, 1, 1), slices(4, 4))
    assert grid.shape == (8, 2, 1)
    assert [sorted({d.slice_index for d in grid[i : i + 2].ravel()}) for i in range(0, 8, 2)] == [[0], [1], [2], [3]]
    grid = hybrid_devices((2, 8, 1), (1, 4, 1), slices(4, 4))
    assert all(len({d.slice_index for d in row.ravel()}) == 4 for row in grid)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (MeshConfig(8, 1, 1, dcn_data=4), r"4 x 1 x 1 does not match the 1 processes of 8 devices"),
        (MeshConfig(2, 4, 1, dcn_data=4), r"config\.mesh\.data = 2 is not a multiple of config\.mesh\.dcn_data = 4"),
        (MeshConfig(8, 1, 1, dcn_fsdp=0), r"config\.mesh\.dcn_fsdp = 0"),
    ],
)
def test_slices_that_are_not_there_are_refused(config, message):
    with pytest.raises(UserError, match=message):
        make_mesh(config)


def test_constraints_place_what_their_axes_divide():
    mesh = make_mesh(MeshConfig(2, 2, 2))

    def place(x):
        with on_mesh(mesh):
            return constrain(x, "batch", "time", "heads", "each")

    found = jax.jit(place)(np.zeros((8, 3, 4, 5), np.float32)).sharding.spec
    assert tuple(found) == (("data", "fsdp"), None, "tensor")
    assert tuple(jax.jit(place)(np.zeros((8, 3, 5, 5), np.float32)).sharding.spec) == (("data", "fsdp"),)
    assert constrain(found := np.zeros(3), "width") is found  # without a mesh nothing happens
    with pytest.raises(ValueError, match="2 names"):
        constrain(np.zeros(3), "batch", "width")


@pytest.mark.parametrize("form", ["shift", "lax"])
@pytest.mark.parametrize("channels", [8, 6])  # 4 divides 8
def test_the_kernel_gradient_of_depthwise_convolutions_beside_a_tensor_axis(form, channels):
    """XLA counts the copies of rows that are split over one axis and copied over another."""
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((8, 9, channels)), rng.standard_normal((5, channels))
    x, kernel = x.astype(np.float32), kernel.astype(np.float32)
    mesh = make_mesh(MeshConfig(2, 1, 4))

    def gradient(x, kernel):
        with on_mesh(mesh):
            x = constrain(x, "batch", "time", "width")
            return jax.grad(lambda k: jnp.sum(jnp.sin(depthwise1d(x, k, (2, 2), form))))(kernel)

    expected = jax.grad(lambda k: jnp.sum(jnp.sin(depthwise1d(x, k, (2, 2), form))))(kernel)
    np.testing.assert_allclose(jax.jit(gradient)(x, kernel), expected, rtol=1e-4, atol=1e-5)
