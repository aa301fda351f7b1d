"""Operations of traced programs against sums by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import PartitionSpec

from alp_jax.config.schema import MeshConfig
from alp_jax.parallel.mesh import make_mesh
from alp_jax.planning.flops import flops


def count(function, *shapes):
    return flops(jax.jit(function).trace(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)).jaxpr)


def conv(x, kernel, stride=1, groups=1):
    numbers = ("NWC", "WIO", "NWC")
    return lax.conv_general_dilated(
        x, kernel, (stride,), [(1, 1)], dimension_numbers=numbers, feature_group_count=groups
    )


# three taps of which the first and the last position miss one each
TAPS = 3 * 10 - 2


@pytest.mark.parametrize(
    ("function", "shapes", "expected"),
    [
        (jnp.matmul, ((4, 5), (5, 6)), 2 * 4 * 5 * 6),
        (lambda a, b: jnp.einsum("bij,bjk->bik", a, b), ((3, 4, 5), (3, 5, 6)), 3 * 2 * 4 * 5 * 6),
        (conv, ((2, 10, 4), (3, 4, 6)), 2 * 2 * TAPS * 4 * 6),
        (lambda x, k: conv(x, k, groups=4), ((2, 10, 4), (3, 1, 4)), 2 * 2 * TAPS * 4),
        (lambda x, k: conv(x, k, stride=2), ((2, 10, 4), (3, 4, 6)), 2 * 2 * (3 * 5 - 1) * 4 * 6),
        (lambda x, w: lax.scan(lambda c, _: (c @ w, None), x, length=7)[0], ((4, 5), (5, 5)), 7 * 2 * 4 * 5 * 5),
        (
            lambda x, w: lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: x @ w @ w),
            ((4, 5), (5, 5)),
            2 * 2 * 4 * 5 * 5,
        ),
    ],
)
def test_counts(function, shapes, expected):
    assert count(function, *shapes) == expected


@pytest.mark.parametrize("groups", [1, 4])
def test_a_backward_pass_of_a_convolution_costs_two_forward_passes(groups):
    def gradients(x, kernel):
        return jax.grad(lambda *args: conv(*args, groups=groups).sum(), argnums=(0, 1))(x, kernel)

    shapes = ((2, 10, 4), (3, 4 // groups, 4))
    assert count(gradients, *shapes) == 3 * count(lambda x, k: conv(x, k, groups=groups), *shapes)


def test_the_body_of_a_shard_map_counts_on_every_device():
    mesh = make_mesh(MeshConfig(data=8))
    rows = PartitionSpec("data")
    product = jax.shard_map(lambda x: x @ x.T, mesh=mesh, in_specs=rows, out_specs=rows)
    assert count(product, (16, 5)) == 8 * 2 * 2 * 5 * 2
