"""A batch in parts against the same batch whole: gradients in float64, steps of real models, memory."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.config.schema import MeshConfig, ObjectiveConfig, OptimConfig, SpecAugmentConfig
from alp_jax.core.errors import UserError
from alp_jax.objectives.base import SpecialTokens
from alp_jax.objectives.registry import make_objective
from alp_jax.parallel.mesh import batch_sharding, make_mesh, replicated
from alp_jax.train.step import value_and_grad
from tests.parallel import splits

TOKENS = SpecialTokens(0, 1, 2, 3)


def rows_of(rng, batch):
    """Vectors in place of audio, with captions that repeat, ragged and padded rows."""
    text_len = rng.integers(1, 5, batch).astype(np.int32)
    return {
        "x": rng.standard_normal((batch, 5)),
        "text": rng.integers(5, 9, (batch, 4)).astype(np.int32) * (np.arange(4) < text_len[:, None]),
        "text_len": text_len,
        "recording": np.arange(batch, dtype=np.int32) // 2,
        "caption_group": rng.integers(0, 12, batch).astype(np.int32),
        "mask": np.arange(batch) % 7 != 3,
    }


def linear_model(objective):
    """reduced(params, whitening, rows, key) of a linear model with noise on what it measures."""

    def reduced(params, whitening, rows, key):
        def unit(x_BD):
            return x_BD / jnp.linalg.norm(x_BD, axis=1, keepdims=True)

        hidden_BD = jnp.tanh(rows["x"] @ params["w"])
        outputs = {"audio_embed_BD": unit(hidden_BD), "text_embed_BD": unit(rows["x"][:, ::-1] @ params["w"])}
        outputs |= {"logit_scale": params["scale"], "logit_bias": params["bias"]}
        # the state's gradient stands for what a part measured
        decoded_BLD = hidden_BD[:, None] * jnp.arange(1.0, 6)[None, :, None] + params["bias"]
        outputs |= {"decoded_BLD": decoded_BLD + 0.0 * whitening.sum(), "vocab_DV": params["out"]}
        return objective.reduce(outputs, rows["inputs"])

    return reduced


INFO_NCE = {"name": "contrastive"}
OTHERS = {
    "siglip": {"name": "contrastive", "loss": "siglip", "learn_bias": True, "reduction": "sum", "embed_reg": 0.5},
    "captioning": {"name": "captioning", "autoregressive_share": 0.5},
    "hybrid": {"name": "hybrid", "contrastive_share": 0.3},
}


@pytest.mark.parametrize(
    ("devices", "settings"),
    [
        *(pytest.param(count, INFO_NCE, id=f"info_nce-{count}") for count in (1, 8)),
        *(pytest.param(8, settings, id=f"{name}-8") for name, settings in OTHERS.items()),
        *(pytest.param(1, settings, id=f"{name}-1", marks=pytest.mark.nightly) for name, settings in OTHERS.items()),
    ],
)
def test_gradients_of_parts_are_those_of_the_whole_batch(devices, settings):
    mesh = make_mesh(MeshConfig(), jax.devices()[:devices])
    objective = make_objective(ObjectiveConfig(**settings), TOKENS, mesh)
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        params = {"w": rng.standard_normal((5, 6)), "out": rng.standard_normal((6, 9)), "scale": 1.5, "bias": -1.0}
        params = jax.tree.map(lambda x: jax.device_put(jnp.asarray(x, jnp.float64), replicated(mesh)), params)
        batch = jax.tree.map(lambda x: jax.device_put(x, batch_sharding(mesh)), rows_of(rng, 48))
        inputs = objective.prepare(batch, jax.random.key(1))
        rows = {"x": batch["x"], "inputs": inputs}

        def of(parts):
            run = jax.jit(value_and_grad(linear_model(objective), objective, parts, mesh))
            return run(params, jnp.ones(3), rows, inputs, batch, jax.random.key(2))

        (loss, metrics), (grads, _) = of(1)
        for parts in (2, 6):
            (part_loss, part_metrics), (part_grads, _) = of(parts)
            np.testing.assert_allclose(part_loss, loss, rtol=1e-12)
            # clip for clip the same, so whole numbers of hits too
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), part_metrics, metrics)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), part_grads, grads)


def test_a_step_in_parts_is_the_step_of_the_whole_batch():
    """Augmented clips too: draws of a clip hang on its place in the batch. Dropout draws by parts and is off."""
    config = splits.config_for("contrastive", (2, 1, 1), "vit")
    text = dataclasses.replace(config.model.text, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, text=text),
        features=dataclasses.replace(config.features, spec_augment=SpecAugmentConfig(enabled=True)),
        optim=OptimConfig(lr=1e-1, warmup_steps=0, eps=1.0),  # nearly the gradient itself: no noise is blown up
    )
    devices = jax.devices()[:2]
    one = splits.train(config, 2, devices)
    parts = splits.train(dataclasses.replace(config, train=dataclasses.replace(config.train, accumulate=4)), 2, devices)
    np.testing.assert_allclose(parts[0], one[0], rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), jax.device_get(parts[1]), jax.device_get(one[1])
    )


def test_what_parts_measure_is_averaged_and_each_has_a_key():
    mesh = make_mesh(MeshConfig(), jax.devices()[:2])
    objective = make_objective(ObjectiveConfig(name="captioning"), TOKENS, mesh)
    batch = {name: jnp.asarray(value) for name, value in rows_of(np.random.default_rng(0), 8).items()}
    inputs = objective.prepare(batch, jax.random.key(1))

    @jax.custom_vjp
    def measure(whitening, x_B):
        return jnp.zeros(())

    measure.defvjp(lambda whitening, x_B: (measure(whitening, x_B), x_B), lambda x_B, _: (x_B.mean()[None], 0 * x_B))

    def reduced(params, whitening, rows, key):
        drawn = jax.random.uniform(key)
        decoded_BLD = params * rows["x"][:, :1, None] * jnp.ones((1, 5, 3))
        decoded_BLD += measure(whitening, rows["x"][:, 0] + drawn)
        return objective.reduce({"decoded_BLD": decoded_BLD, "vocab_DV": jnp.ones((3, 9))}, rows["inputs"])

    key, rows = jax.random.key(3), {"x": batch["x"], "inputs": inputs}
    run = jax.jit(value_and_grad(reduced, objective, 4, mesh))
    _, (_, change) = run(jnp.ones(()), jnp.zeros(1), rows, inputs, batch, key)
    drawn = np.mean([jax.random.uniform(jax.random.fold_in(key, part)) for part in range(4)])
    np.testing.assert_allclose(change, [batch["x"][:, 0].mean() + drawn], rtol=1e-5)


def test_memory_is_that_of_a_part():
    """Activations shrink with the part; parameters, gradients and the whole batch's embeddings stay."""
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    objective = make_objective(ObjectiveConfig(), TOKENS, mesh)

    def reduced(params, whitening, rows, key):
        x_BTD = jnp.tanh(rows["x"][:, None] * jnp.arange(512.0)[:, None] @ params)
        embed_BD = jnp.tanh(x_BTD @ params.T).mean(1)
        return objective.reduce({"audio_embed_BD": embed_BD, "text_embed_BD": embed_BD, "logit_scale": 1.0}, {})

    def temporary(parts):
        batch = {name: jnp.asarray(value) for name, value in rows_of(np.random.default_rng(0), 64).items()}
        args = (jnp.ones((5, 64)), jnp.ones(1), {"x": batch["x"], "inputs": {}}, {}, batch, jax.random.key(0))
        run = jax.jit(value_and_grad(reduced, objective, parts, mesh))
        return run.lower(*args).compile().memory_analysis().temp_size_in_bytes

    assert temporary(8) < temporary(1) / 5


def test_a_batch_that_cannot_be_cut_is_refused():
    config = splits.config_for("contrastive", (8, 1, 1), "vit")
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, accumulate=3))
    with pytest.raises(UserError, match=r"16 clips cannot be split into config.train.accumulate=3 parts on 8 devices"):
        splits.train(config, 1)
