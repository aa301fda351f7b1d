"""Supervised tagging against scikit-learn, its model, and the encoder that it leaves for others to start with."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss

from alp_jax.config.schema import MeshConfig, ObjectiveConfig
from alp_jax.core.errors import UserError
from alp_jax.objectives.base import SpecialTokens
from alp_jax.objectives.registry import make_objective
from alp_jax.parallel.mesh import make_mesh
from alp_jax.train.build import make_model, make_parts
from tests.parallel import splits


@pytest.fixture(scope="module")
def objective():
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    return make_objective(ObjectiveConfig(name="tagging"), SpecialTokens(0, 1, 2, 3), mesh)


def test_is_the_mean_of_binary_cross_entropies_over_labelled_clips(objective):
    rng = np.random.default_rng(0)
    logits, tags = 3 * rng.standard_normal((7, 5)), rng.random((7, 5)) < 0.4
    tags[2], mask = False, np.arange(7) != 4
    used = mask & tags.any(1)
    assert 1 < used.sum() < 6
    batch = {"tags": jnp.asarray(tags), "mask": jnp.asarray(mask)}
    inputs = objective.prepare(batch, jax.random.key(0))
    value, metrics = objective.loss({"tag_logits_BV": jnp.asarray(logits, jnp.float32)}, inputs, batch)
    chance = 1 / (1 + np.exp(-logits[used].ravel()))
    np.testing.assert_allclose(value, log_loss(tags[used].ravel(), chance), rtol=1e-5)
    hits = tags[used][np.arange(used.sum()), logits[used].argmax(1)]
    np.testing.assert_allclose(metrics["accuracy"], hits.mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["labelled_share"], used.mean(), rtol=1e-6)


def test_the_model_is_an_encoder_with_one_layer(objective):
    config = splits.config_for("tagging", (1, 1, 1), "vit")
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, num_tags=9))
    init, apply = make_model(config)
    params = jax.jit(init)(jax.random.key(0))
    assert set(params) == {"encoder", "tagger"}
    mel, inputs = jnp.ones((2, 64, 80)), {"tags_BV": jnp.ones((2, 5), bool)}
    frames, length = jax.jit(lambda p, m: apply(p, m, jnp.array([64, 32]), method="encode"))(params, mel)
    logits = jax.jit(lambda p, m: apply(p, m, jnp.array([64, 32]), inputs))(params, mel)["tag_logits_BV"]
    means = [frames[i, : length[i]].mean(0) for i in range(2)]
    expected = np.stack(means) @ params["tagger"]["kernel"] + params["tagger"]["bias"]
    np.testing.assert_allclose(logits, expected[:, :5], atol=1e-5)


def test_a_list_that_the_model_cannot_hold_is_refused(tmp_path):
    class Tokenizer:
        vocab_size = 10**6

    config, mesh = splits.config_for("tagging", (1, 1, 1), "vit"), make_mesh(MeshConfig(), jax.devices()[:1])
    with pytest.raises(UserError, match=r"tagging needs config\.data\.tags"):
        make_parts(config, Tokenizer(), mesh)
    (tmp_path / "tags.json").write_text('{"kind": "tags", "tags": ["a", "b", "c"]}')
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, tags=str(tmp_path / "tags.json")))
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, num_tags=2))
    with pytest.raises(UserError, match=r"config\.model\.num_tags is 2 but config\.data\.tags has 3"):
        make_parts(config, Tokenizer(), mesh)
