"""The schedule's corners, the decay mask, and one step against AdamW written out."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alp_jax.config.schema import OptimConfig
from alp_jax.core.errors import UserError
from alp_jax.optim.optimizer import learning_rate, make_optimizer


def test_schedule_warms_up_and_decays():
    schedule = learning_rate(OptimConfig(lr=2.0, warmup_steps=10, final_lr_fraction=0.1), 110)
    np.testing.assert_allclose([schedule(s) for s in (0, 5, 10, 60, 110)], [0, 1, 2, 1.1, 0.2], rtol=1e-6)


def test_only_matrices_decay_and_steps_follow_the_formula():
    config = OptimConfig(lr=0.1, warmup_steps=1, weight_decay=0.5, clip_norm=0.0)
    optimizer = make_optimizer(config, 1000)
    params = {"layer": {"kernel": jnp.asarray([[2.0]]), "bias": jnp.asarray([3.0])}}
    grads = {"layer": {"kernel": jnp.asarray([[0.3]]), "bias": jnp.asarray([-0.4])}}
    state = optimizer.init(params)
    updates, state = optimizer.update(grads, state, params)  # learning rate 0 at step 0
    params = optax.apply_updates(params, updates)
    updates, _ = optimizer.update(grads, state, params)
    # constant gradients: the Adam direction is its sign
    np.testing.assert_allclose(updates["layer"]["kernel"], [[-0.1 * (1 + 0.5 * 2.0)]], rtol=1e-5)
    np.testing.assert_allclose(updates["layer"]["bias"], [0.1], rtol=1e-5)


def test_frozen_gradients_do_not_count_in_the_clipping_norm():
    params = {"encoder": jnp.ones(3), "text": jnp.ones(3)}
    # an eps far above the gradients keeps Adam from undoing their scale
    config = OptimConfig(lr_scale="encoder=0", schedule="eden2", clip_norm=1.0, eps=1.0, weight_decay=0.5)
    optimizer = make_optimizer(config, 10)

    def update(frozen):
        grads = {"encoder": jnp.full(3, frozen), "text": jnp.full(3, 0.1)}
        return optimizer.update(grads, optimizer.init(params), params)[0]

    np.testing.assert_array_equal(update(1000.0)["text"], update(0.0)["text"])
    np.testing.assert_array_equal(update(1000.0)["encoder"], np.zeros(3))


def test_unknown_optimiser_is_named():
    with pytest.raises(UserError, match=r"config\.optim\.name 'sgd'"):
        make_optimizer(OptimConfig(name="sgd"), 10)
