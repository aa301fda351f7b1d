"""Modules as pure functions, and the generator of start values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from alp_jax.models.functional import functionalize
from alp_jax.models.init_prng import init_key


class Tower(nnx.Module):
    def __init__(self, depth, *, rngs):
        self.layers = nnx.List(nnx.Linear(3, 3, rngs=rngs) for _ in range(depth))

    def __call__(self, x):
        for i, layer in enumerate(self.layers):
            x = layer(x) + i
        return x

    def first(self, x):
        return self.layers[0](x)


def test_lists_have_stable_names_and_keep_their_order():
    init, apply = functionalize(lambda rngs: Tower(11, rngs=rngs))
    params = init(jax.random.key(0))
    assert list(params) == ["layers"]
    assert set(params["layers"]) == {str(i) for i in range(11)}
    assert set(params["layers"]["10"]) == {"kernel", "bias"}
    params["layers"]["10"] = {"kernel": jnp.zeros((3, 3)), "bias": jnp.full(3, 7.0)}
    np.testing.assert_array_equal(apply(params, jnp.ones(3)), np.full(3, 17.0))  # layer 10 is the last, not the third
    np.testing.assert_allclose(
        apply(params, jnp.ones(3), method="first"), params["layers"]["0"]["kernel"].sum(0), atol=1e-6
    )


def test_a_missing_parameter_is_named():
    init, apply = functionalize(lambda rngs: Tower(2, rngs=rngs))
    params = init(jax.random.key(0))
    del params["layers"]["1"]["bias"]
    with pytest.raises(KeyError, match="layers/1/bias"):
        apply(params, jnp.ones(3))


def test_start_values_depend_on_the_key_alone():
    init, _ = functionalize(lambda rngs: Tower(2, rngs=rngs))
    first, again, other = init(jax.random.key(0)), jax.jit(init)(jax.random.key(0)), init(jax.random.key(1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), first, again)
    kernels = [first["layers"]["0"]["kernel"], first["layers"]["1"]["kernel"], other["layers"]["0"]["kernel"]]
    assert len({float(kernel[0, 0]) for kernel in kernels}) == 3


def test_start_generator_is_uniform_and_uncorrelated():
    key = init_key(jax.random.key(0))
    draws = [np.asarray(jax.random.uniform(jax.random.fold_in(key, i), (200, 500))) for i in range(3)]
    for draw in draws:
        assert abs(draw.mean() - 0.5) < 0.005
        assert abs(draw.std() - 12**-0.5) < 0.003
        assert np.abs(np.histogram(draw, 10, (0, 1))[0] - 10000).max() < 500
        assert abs(np.corrcoef(draw[:, 1:].ravel(), draw[:, :-1].ravel())[0, 1]) < 0.015
    assert np.abs(np.corrcoef([draw.ravel() for draw in draws]) - np.eye(3)).max() < 0.015
