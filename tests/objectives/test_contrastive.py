"""The chunked, sharded InfoNCE against a dense one written from the definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.config.schema import MeshConfig, ObjectiveConfig
from alp_jax.objectives.base import SpecialTokens
from alp_jax.objectives.contrastive import info_nce, make_contrastive, wrap_caption
from alp_jax.parallel.mesh import make_mesh

TOKENS = SpecialTokens(pad=0, bos=1, eos=2, mask=4)


def dense(audio_BD, text_BD, scale, groups_BG, mask_B):
    """InfoNCE over the whole similarity matrix, straight from its definition."""
    logits = audio_BD @ text_BD.T * scale
    same = jnp.any(groups_BG[:, None] == groups_BG[None], -1)
    own = jnp.eye(len(logits), dtype=bool)
    logits = jnp.where((~same & mask_B[None] & mask_B[:, None]) | own, logits, -jnp.inf)
    rows = -jnp.diagonal(jax.nn.log_softmax(logits, 1))
    columns = -jnp.diagonal(jax.nn.log_softmax(logits, 0))
    return jnp.where(mask_B, rows + columns, 0).sum() / (2 * mask_B.sum())


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)

    def unit(*shape):
        x = rng.standard_normal(shape)
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    audio, text = unit(24, 6), unit(24, 6)
    groups = np.stack([np.arange(24), 100 + np.arange(24)], 1)
    groups[3, 0] = groups[17, 0]  # same recording, on different devices
    groups[5, 1] = groups[6, 1] = groups[20, 1]  # same caption, three times
    mask = np.ones(24, bool)
    mask[[2, 23]] = False
    return audio, text, groups, mask


@pytest.mark.parametrize("devices", [1, 2, 8])
@pytest.mark.parametrize("chunk", [5, 1024])
def test_equals_the_dense_loss_and_its_gradients(batch, devices, chunk):
    audio, text, groups, mask = batch
    mesh = make_mesh(MeshConfig(data=-1, fsdp=min(devices, 2)), jax.devices()[:devices])
    with jax.enable_x64(True):
        args = [jnp.asarray(audio), jnp.asarray(text), jnp.asarray(14.0, jnp.float64)]
        rest = (jnp.asarray(groups, jnp.int32), jnp.asarray(mask))
        chunked = jax.jit(
            jax.value_and_grad(lambda a, t, s: info_nce(a, t, s, *rest, mesh=mesh, chunk=chunk)[0], (0, 1, 2))
        )
        expected, expected_grads = jax.value_and_grad(lambda a, t, s: dense(a, t, s, *rest), (0, 1, 2))(*args)
        value, grads = chunked(*args)
        assert abs(float(value - expected)) < 1e-12
        for got, want in zip(grads, expected_grads, strict=True):
            np.testing.assert_allclose(got, want, atol=1e-12)


def test_duplicates_are_not_negatives(batch):
    """Two clips with the same caption and the same embedding: without exclusion the loss cannot go below log 2."""
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    embed = jnp.asarray([[1.0, 0.0], [1.0, 0.0]], jnp.float32)
    groups = jnp.asarray([[0, 7], [1, 7]], jnp.int32)
    mask = jnp.ones(2, bool)
    with_exclusion, _ = info_nce(embed, embed, 10.0, groups, mask, mesh=mesh, chunk=8)
    without, _ = info_nce(embed, embed, 10.0, None, mask, mesh=mesh, chunk=8)
    assert float(with_exclusion) == 0.0
    np.testing.assert_allclose(without, np.log(2), rtol=1e-6)


def test_memory_grows_with_the_chunk_not_with_the_batch_squared():
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])

    def temporary(rows):
        embed = jax.ShapeDtypeStruct((rows, 16), jnp.float32)
        groups, mask = jax.ShapeDtypeStruct((rows, 2), jnp.int32), jax.ShapeDtypeStruct((rows,), jnp.bool_)
        loss = jax.grad(lambda a, t, g, m: info_nce(a, t, 10.0, g, m, mesh=mesh, chunk=64)[0])
        return jax.jit(loss).lower(embed, embed, groups, mask).compile().memory_analysis().temp_size_in_bytes

    assert temporary(4096) / temporary(1024) < 6  # 16 if the matrix were held


def test_captions_are_wrapped():
    text, length = wrap_caption(jnp.asarray([[7, 8, 0], [9, 0, 0], [5, 6, 7]]), jnp.asarray([2, 1, 3]), TOKENS)
    assert text.tolist() == [[1, 7, 8, 2, 0], [1, 9, 2, 0, 0], [1, 5, 6, 7, 2]]
    assert length.tolist() == [4, 3, 5]


@pytest.mark.parametrize("learn", [True, False])
def test_temperature_is_learnt_or_fixed_and_clamped(batch, learn):
    audio, text, groups, mask = (jnp.asarray(x) for x in batch)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    objective = make_contrastive(ObjectiveConfig(learn_temperature=learn, max_logit_scale=50.0), TOKENS, mesh)
    data = {"recording": groups[:, 0], "caption_group": groups[:, 1], "mask": mask}

    def loss(log_scale):
        outputs = {"audio_embed_BD": audio, "text_embed_BD": text, "logit_scale": log_scale}
        return objective.loss(outputs, {}, data)

    (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(jnp.log(20.0))
    assert (float(gradient) != 0) == learn
    np.testing.assert_allclose(metrics["logit_scale"], 20.0, rtol=1e-6)
    np.testing.assert_allclose(loss(jnp.log(80.0))[1]["logit_scale"], 50.0, rtol=1e-6)
