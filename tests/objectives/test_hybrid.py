"""The hybrid objective is the two others added, on outputs of one model with one encoder."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.config.schema import MeshConfig, ObjectiveConfig
from alp_jax.core.errors import UserError
from alp_jax.models.accounting import encoder_flops, train_flops
from alp_jax.objectives.base import SpecialTokens
from alp_jax.objectives.registry import make_objective, objective_spec
from alp_jax.parallel.mesh import make_mesh
from alp_jax.train.build import make_model
from tests.parallel import splits

TOKENS = SpecialTokens(0, 1, 2, 3)


def objective(**settings):
    return make_objective(ObjectiveConfig(**settings), TOKENS, make_mesh(MeshConfig(), jax.devices()[:1]))


def test_adds_the_two_losses():
    rng = np.random.default_rng(0)
    batch = {name: jnp.asarray(value) for name, value in splits.batch(0).items()}
    key, settings = jax.random.key(1), {"autoregressive_share": 0.5, "label_smoothing": 0.2, "temperature": 0.1}
    embeds = rng.standard_normal((2, 16, 8)).astype(np.float32)
    outputs = dict(zip(("audio_embed_BD", "text_embed_BD"), embeds, strict=True)) | {"logit_scale": jnp.float32(0.5)}
    outputs["decoded_BLD"] = jnp.asarray(rng.standard_normal((16, splits.TOKENS + 1, 7)), jnp.float32)
    outputs["vocab_DV"] = jnp.asarray(rng.standard_normal((7, 96)), jnp.float32)
    both = objective(name="hybrid", contrastive_share=0.3, **settings)

    def measured(objective):
        return jax.jit(lambda outputs, batch: objective.loss(outputs, objective.prepare(batch, key), batch))(
            outputs, batch
        )

    value, metrics = measured(both)
    alone = {}
    for name in ("contrastive", "captioning"):
        alone[name], found = measured(objective(name=name, **settings))
        for metric, number in found.items():
            np.testing.assert_allclose(metrics[f"{name}/{metric}"], number, rtol=1e-6)
        np.testing.assert_allclose(metrics[f"{name}/loss"], alone[name], rtol=1e-6)
    np.testing.assert_allclose(value, 0.3 * alone["contrastive"] + 0.7 * alone["captioning"], rtol=1e-6)
    assert metrics["accuracy"] == metrics["contrastive/accuracy"]


def test_its_model_has_both_sides_and_one_encoder():
    config = splits.config_for("hybrid", (1, 1, 1), "vit")
    shapes = {}
    for name in ("contrastive", "captioning", "hybrid"):
        named = dataclasses.replace(config, objective=ObjectiveConfig(name=name))
        shapes[name] = set(jax.eval_shape(make_model(named)[0], jax.random.key(0)))
    assert shapes["hybrid"] == shapes["contrastive"] | shapes["captioning"]
    flops = {name: train_flops(config.model, objective_spec(name).sides, 1.0, 8) for name in shapes}
    encoder = 3 * encoder_flops(config.model, 1.0)
    np.testing.assert_allclose(flops["hybrid"], flops["contrastive"] + flops["captioning"] - encoder, rtol=1e-12)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_beyond_the_whole_is_refused(share):
    with pytest.raises(UserError, match=f"contrastive_share is {share}"):
        objective(name="hybrid", contrastive_share=share)
