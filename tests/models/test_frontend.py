"""Both forms of the depthwise convolutions give the same results and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.models.zipformer.frontend import depthwise1d, depthwise2d


def draw(*shape):
    return jnp.asarray(np.random.default_rng(sum(shape)).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize(
    ("convolve", "x", "kernel"),
    [
        (lambda x, w, form: depthwise1d(x, w, (2, 2), form), draw(2, 9, 3), draw(5, 3)),
        (lambda x, w, form: depthwise1d(x, w, (3, 0), form), draw(2, 9, 3), draw(4, 3)),
        (depthwise2d, draw(2, 9, 5, 3), draw(7, 7, 3)),
    ],
    ids=["1d", "1d causal", "2d"],
)
def test_forms_agree_forward_and_backward(convolve, x, kernel):
    results = []
    for form in ("shift", "lax"):

        def run(x, kernel, form=form):
            y = convolve(x, kernel, form)
            return jnp.sum(jnp.sin(y)), y

        (_, y), grads = jax.jit(jax.value_and_grad(run, argnums=(0, 1), has_aux=True))(x, kernel)
        results.append((y, *grads))
    for shift, lax in zip(*results, strict=True):
        np.testing.assert_allclose(shift, lax, atol=2e-5)
    assert results[0][0].shape == x.shape
