"""The loss over a vocabulary against the dense one: values, gradients, types; memory at the paper's size."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.config.schema import MeshConfig
from alp_jax.objectives.token_loss import token_losses
from alp_jax.parallel.mesh import make_mesh

ROWS, LENGTH, WIDTH = 8, 5, 6


def dense(states, vocab, targets, smoothing):
    """(loss, hit) as torch has them: cross entropy against (1 - smoothing) * one-hot + smoothing / V."""
    logits = states @ vocab
    wanted = (1 - smoothing) * jax.nn.one_hot(targets, logits.shape[-1]) + smoothing / logits.shape[-1]
    hit = jnp.take_along_axis(logits, targets[..., None], -1)[..., 0] >= logits.max(-1)
    return -(wanted * jax.nn.log_softmax(logits)).sum(-1), hit


def planted(vocabulary, dtype=jnp.float64, rows=ROWS):
    states = 2 * jax.random.normal(jax.random.key(0), (rows, LENGTH, WIDTH), dtype)
    vocab = jax.random.normal(jax.random.key(1), (WIDTH, vocabulary), dtype)
    targets = jax.random.randint(jax.random.key(2), (rows, LENGTH), 0, vocabulary)
    likeliest = jnp.argmax(states @ vocab, -1)  # in half of the rows every position is a hit
    return states, vocab, jnp.where(jnp.arange(rows)[:, None] % 2, likeliest, targets)


@pytest.mark.parametrize(
    ("mesh", "vocabulary", "rows", "tile"),
    [
        ((1, 1, 1), 37, ROWS, (4096, 8192)),
        ((1, 1, 1), 37, ROWS, (7, 9)),
        ((2, 2, 2), 38, ROWS, (7, 9)),
        ((2, 2, 2), 37, 3, (7, 9)),  # neither rows nor vocabulary are split
    ],
)
def test_values_and_gradients_are_those_of_all_logits(mesh, vocabulary, rows, tile):
    sizes = MeshConfig(*mesh)
    devices = jax.devices()[: int(np.prod(mesh))]
    settings = {"smoothing": 0.1, "mesh": make_mesh(sizes, devices), "tile": tile}
    with jax.enable_x64(True):
        states, vocab, targets = planted(vocabulary, rows=rows)
        weight = jax.random.normal(jax.random.key(3), targets.shape, jnp.float64)

        def total(of, states, vocab):
            loss, hit = of(states, vocab, targets)
            return (weight * loss).sum(), (loss, hit)

        chunked, whole = partial(token_losses, **settings), partial(dense, smoothing=0.1)
        found, expected = (
            jax.jit(jax.value_and_grad(partial(total, of), argnums=(0, 1), has_aux=True))(states, vocab)
            for of in (chunked, whole)
        )
        np.testing.assert_allclose(found[0][1][0], expected[0][1][0], rtol=1e-13)
        np.testing.assert_array_equal(found[0][1][1], expected[0][1][1])
        assert 0 < np.mean(found[0][1][1]) < 1
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13), found[1], expected[1])


def test_products_are_in_bfloat16_and_sums_in_float32():
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    states, vocab, targets = planted(300, jnp.float32)
    states = states.astype(jnp.bfloat16)
    rounded = states.astype(jnp.float32), vocab.astype(jnp.bfloat16).astype(jnp.float32)

    def total(of, states, vocab):
        loss = of(states, vocab, targets)[0]
        return loss.sum(), loss

    chunked, whole = partial(token_losses, smoothing=0.1, mesh=mesh, tile=(16, 128)), partial(dense, smoothing=0.1)
    (found, by_found), (expected, by_expected) = (
        jax.jit(jax.grad(partial(total, of), argnums=(0, 1), has_aux=True))(*inputs)
        for of, inputs in ((chunked, (states, vocab)), (whole, rounded))
    )
    assert by_found.dtype == jnp.float32
    np.testing.assert_allclose(by_found, by_expected, rtol=1e-5)
    assert [x.dtype for x in found] == [jnp.bfloat16, jnp.float32]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.astype(jnp.float32), other, atol=0.01 * float(jnp.abs(other).max()))


@pytest.mark.parametrize("tokens", [30, 128])
def test_memory_at_the_paper_s_size(tokens):
    """512 clips, 50,000 tokens, forward and backward on one device: less than seven tiles besides the gradients."""
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    clips, width, vocabulary = 512, 768, 50_000
    positions = clips * (tokens + 1)
    shapes = (
        jax.ShapeDtypeStruct((clips, tokens + 1, width), jnp.bfloat16),
        jax.ShapeDtypeStruct((width, vocabulary), jnp.float32),
        jax.ShapeDtypeStruct((clips, tokens + 1), jnp.int32),
    )

    def total(states, vocab, targets):
        return token_losses(states, vocab, targets, smoothing=0.1, mesh=mesh).loss.sum()

    memory = jax.jit(jax.grad(total, argnums=(0, 1))).lower(*shapes).compile().memory_analysis()
    print(
        f"{clips} x {tokens + 1} positions: {memory.temp_size_in_bytes / 1e9:.2f} GB; "
        f"the logits alone would have {4 * positions * vocabulary / 1e9:.2f}"
    )
    tables = 6 * width * (4 * vocabulary + positions)
    assert memory.temp_size_in_bytes < tables + 7 * 4 * min(positions, 4096) * 8192
