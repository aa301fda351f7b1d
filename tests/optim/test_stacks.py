"""Small parameters side by side change nothing but the number of programs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alp_jax.config.schema import OptimConfig
from alp_jax.optim.optimizer import learning_rate, make_optimizer
from alp_jax.optim.stacks import SMALL, Stacks, decay_mask, global_norm

RNG = np.random.default_rng(0)


def parameters(layers=12):
    """Nested dictionaries with small and large arrays, kernels and biases of one shape, and single numbers."""

    def layer(width):
        shapes = {"bias": (width,), "kernel": (width,), "log_scale": ()}
        arrays = {name: RNG.standard_normal(shape) for name, shape in shapes.items()}
        return {"in": arrays, "out": {"kernel": RNG.standard_normal((SMALL // 8, 8))}}

    tree = {"layers": {str(i): layer(4 if i % 3 else 6) for i in range(layers)}}
    return jax.tree.map(jnp.float32, tree)


def test_what_is_joined_splits_again_and_keeps_its_sums():
    a, b = parameters(), parameters()
    stacks = Stacks(a)
    joined = stacks.join(a)
    assert joined["stacked"]["bias"]["4"].shape == (8, 4)
    assert joined["stacked"]["log_scale"]["number"].shape == (12,)
    assert joined["whole"]["layers"]["3"]["out"]["kernel"] is a["layers"]["3"]["out"]["kernel"]
    jax.tree.map(np.testing.assert_array_equal, stacks.split(joined), a)
    dots = [jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)]
    np.testing.assert_allclose(stacks.dots(joined, stacks.join(b)), dots, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(global_norm(a), optax.global_norm(a), rtol=1e-6)
    for leaf, pick in zip(jax.tree.leaves(joined), stacks.pickers(), strict=True):
        assert np.broadcast_shapes(leaf.shape, pick(stacks.size_N).shape) == leaf.shape
        assert (pick(stacks.size_N) == leaf.size // (len(leaf) if pick(stacks.size_N).ndim else 1)).all()


def test_adamw_is_that_of_optax():
    config = OptimConfig(name="adamw", lr=0.1, warmup_steps=2, weight_decay=0.3, clip_norm=1.0)
    ours = make_optimizer(config, 10)
    decayed = jax.tree_util.tree_map_with_path(lambda path, _: "kernel" in jax.tree_util.keystr(path), parameters())
    plain = optax.adamw(learning_rate(config, 10), config.b1, config.b2, config.eps, weight_decay=0.3, mask=decayed)
    plain = optax.chain(optax.clip_by_global_norm(1.0), plain)
    params = expected = parameters()
    state, plain_state = ours.init(params), plain.init(params)
    for _ in range(3):
        grads = parameters()
        updates, state = ours.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        updates, plain_state = plain.update(grads, plain_state, expected)
        expected = optax.apply_updates(expected, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=2e-7), params, expected)


def test_decay_follows_names_and_not_shapes():
    mask = decay_mask(Stacks(parameters()).join(parameters()))
    assert mask["stacked"]["kernel"]["4"]
    assert mask["whole"]["layers"]["0"]["out"]["kernel"]
    assert not mask["stacked"]["bias"]["4"]
    assert not mask["stacked"]["log_scale"]["number"]


def test_programs_grow_with_shapes_and_not_with_layers():
    def operations(layers):
        params = parameters(layers)
        optimizer = make_optimizer(OptimConfig(name="scaled_adam", schedule="eden2"), 10)
        lowered = jax.jit(optimizer.update).lower(params, optimizer.init(params), params)
        return lowered.as_text().count("stablehlo.sqrt")

    # twelve more layers bring twelve whole kernels, and no more of their 36 small parameters
    assert operations(24) - operations(12) <= 12 * 2
