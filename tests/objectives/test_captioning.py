"""Captioning inputs and loss on cases small enough to write down."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.config.schema import MeshConfig, ObjectiveConfig
from alp_jax.core.errors import UserError
from alp_jax.objectives.base import SpecialTokens
from alp_jax.objectives.captioning import choose_causal, decoder_inputs
from alp_jax.objectives.registry import make_objective
from alp_jax.parallel.mesh import batch_sharding, make_mesh

TOKENS = SpecialTokens(pad=0, bos=1, eos=2, mask=4)


def test_rows_are_autoregressive_or_parallel():
    text = jnp.asarray([[7, 8, 0], [7, 8, 0], [5, 6, 9]])
    inputs = decoder_inputs(text, jnp.asarray([2, 2, 3]), jnp.asarray([True, False, True]), TOKENS)
    assert inputs["decoder_in_BL"].tolist() == [[1, 7, 8, 0], [4, 4, 0, 0], [1, 5, 6, 9]]
    assert inputs["targets_BL"].tolist() == [[7, 8, 2, 0], [7, 8, 0, 0], [5, 6, 9, 2]]
    assert inputs["decoder_len_B"].tolist() == [3, 2, 4]


@pytest.mark.parametrize(
    ("batch", "share", "expected"), [(16, 0.25, 4), (16, 0.0, 0), (16, 1.0, 16), (5, 0.5, 3), (7, 0.5, 3)]
)
def test_the_share_is_exact_and_drawn(batch, share, expected):
    """Of 5 and 7 rows the reference makes round(2.5) = 2 and round(3.5) = 4 parallel."""
    rows = [np.asarray(choose_causal(jax.random.key(k), batch, share)) for k in range(2)]
    assert [r.sum() for r in rows] == [expected, expected]
    assert share in (0.0, 1.0) or (rows[0] != rows[1]).any()


def test_loss_is_the_mean_over_real_tokens_of_valid_rows():
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    objective = make_objective(ObjectiveConfig(name="captioning", label_smoothing=0.1), TOKENS, mesh)
    text, length = jnp.asarray([[7, 8], [7, 8], [3, 0]]), jnp.asarray([2, 2, 1])
    causal = jnp.asarray([True, False, False])
    inputs = decoder_inputs(text, length, causal, TOKENS)
    logits = jax.random.normal(jax.random.key(0), (3, 3, 11))
    mask = jnp.asarray([True, True, False])
    value, metrics = objective.loss({"decoded_BLD": logits, "vocab_DV": jnp.eye(11)}, inputs, {"mask": mask})
    log_probs = np.asarray(jax.nn.log_softmax(logits))
    per_token = [
        -0.9 * log_probs[row, i, target] - 0.1 * log_probs[row, i].mean()
        for row, targets in ((0, (7, 8, 2)), (1, (7, 8)))
        for i, target in enumerate(targets)
    ]
    np.testing.assert_allclose(value, np.mean(per_token), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss_autoregressive"], np.mean(per_token[:3]), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss_parallel"], np.mean(per_token[3:]), rtol=1e-5)


def test_the_loss_is_global_on_eight_devices():
    """Devices with long and with short captions: value and gradient are those of one device, not a mean of means."""
    mesh = make_mesh(MeshConfig(data=4, fsdp=2))
    objective = make_objective(ObjectiveConfig(name="captioning"), TOKENS, mesh)
    length = jnp.asarray([6] * 8 + [1] * 6 + [0, 3])
    mask, causal = jnp.arange(16) != 5, jnp.arange(16) % 3 == 0

    def loss(logits, text, length, causal, mask):
        outputs = {"decoded_BLD": logits, "vocab_DV": jnp.eye(11)}
        return objective.loss(outputs, decoder_inputs(text, length, causal, TOKENS), {"mask": mask})[0]

    with jax.enable_x64(True):
        logits = jax.random.normal(jax.random.key(0), (16, 7, 11), jnp.float64)
        args = (logits, jax.random.randint(jax.random.key(1), (16, 6), 5, 11), length, causal, mask)
        value, gradient = jax.jit(jax.value_and_grad(loss), in_shardings=batch_sharding(mesh))(*args)
        expected, expected_gradient = jax.value_and_grad(loss)(*args)
        assert value.dtype == jnp.float64
        np.testing.assert_allclose(value, expected, rtol=1e-13)
        np.testing.assert_allclose(gradient, expected_gradient, atol=1e-15)


def test_unknown_objective_is_named():
    with pytest.raises(UserError, match="contrastve"):
        make_objective(ObjectiveConfig(name="contrastve"), TOKENS, make_mesh(MeshConfig()))
