"""What travels between devices for the attention: the gradients of weights, not of what is gathered by them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.config.schema import MeshConfig
from alp_jax.models.forms import CHOICES
from alp_jax.models.functional import functionalize
from alp_jax.models.zipformer.modules import AttentionWeights, FrameLengths, relative_positions
from alp_jax.parallel.mesh import batch_sharding, make_mesh, on_mesh, replicated, row_parts
from alp_jax.planning.traffic import traffic

ROWS, LENGTH, WIDTH = 8, 48, 16
POSITIONS = jnp.asarray(relative_positions(LENGTH, 8))


def differentiated(form):
    """(params, gradient of a sum over the attention's weights as a function of params, x_BTD, valid_BT)."""
    init, apply = functionalize(lambda rngs: AttentionWeights(WIDTH, 8, 4, 4, 4, form, rngs=rngs, dtype=jnp.float32))

    def total(params, x_BTD, valid_BT):
        weights_BHTS = apply(params, x_BTD, POSITIONS, FrameLengths(valid_BT, None))
        return jnp.sum(jnp.square(weights_BHTS) * jnp.cos(jnp.arange(LENGTH)))

    # as large as the scores of content, so that the gradient of the positions counts
    params = jax.tree.map(lambda x: 8.0 * x, init(jax.random.key(0)))
    return params, jax.grad(total)


@pytest.mark.parametrize(
    ("mesh", "form"), [((8, 1, 1), form) for form in CHOICES["position"]] + [((2, 2, 2), "direct")]
)
def test_gradients_of_the_positions_are_summed_where_they_are_and_travel_as_the_weights(mesh, form):
    mesh = make_mesh(MeshConfig(*mesh))
    rng = np.random.default_rng(0)
    x_BTD = rng.standard_normal((ROWS, LENGTH, WIDTH)).astype(np.float32)
    valid_BT = np.arange(LENGTH) < rng.integers(LENGTH // 2, LENGTH + 1, ROWS)[:, None]
    params, gradient = differentiated(form)

    def placed(*arguments):
        with on_mesh(mesh):
            return gradient(*arguments)

    rows = batch_sharding(mesh)
    jitted = jax.jit(placed, in_shardings=(replicated(mesh), rows, rows), out_shardings=replicated(mesh))
    compiled = jitted.lower(params, x_BTD, valid_BT).compile()
    expected, found = gradient(params, x_BTD, valid_BT), compiled(params, x_BTD, valid_BT)
    for wanted, got in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5 * np.max(np.abs(wanted)))
    if mesh.shape["tensor"] == 1:  # which exchanges the activations of its heads besides
        collectives = traffic(compiled.as_text(), mesh.size)[0].collectives
        assert {one.kind for one in collectives} == {"all-reduce"}
        assert sum(one.size for one in collectives) == sum(x.nbytes for x in jax.tree.leaves(params))
    else:
        table = 4 * 4 * LENGTH * LENGTH * 4
        assert all(
            one.size < table / mesh.shape["tensor"] for one in traffic(compiled.as_text(), mesh.size)[0].collectives
        )


def test_rows_that_devices_do_not_divide_are_one_part():
    assert row_parts(8) == 1
    with on_mesh(make_mesh(MeshConfig(4, 1, 2))):
        assert (row_parts(8), row_parts(6)) == (4, 1)
