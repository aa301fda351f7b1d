"""The chunked, sharded contrastive losses against dense ones written from their definitions."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.config.schema import MeshConfig, ObjectiveConfig
from alp_jax.core.errors import UserError
from alp_jax.objectives.base import SpecialTokens
from alp_jax.objectives.contrastive import make_contrastive, wrap_caption
from alp_jax.parallel.mesh import batch_sharding, make_mesh, replicated

TOKENS = SpecialTokens(pad=0, bos=1, eos=2, mask=4)


def dense(audio_BD, text_BD, scale, bias, groups_BG, mask_B, loss):
    """The summed loss of both directions over the whole similarity matrix, straight from its definition."""
    logits = audio_BD @ text_BD.T * scale + bias
    same = jnp.any(groups_BG[:, None] == groups_BG[None], -1)
    own = jnp.eye(len(logits), dtype=bool)
    counts = (~same & mask_B[None] & mask_B[:, None]) | own
    if loss == "siglip":
        # binary cross entropy with logits, targets the identity, the same matrix in both directions
        likelihood = jnp.where(own, jax.nn.sigmoid(logits), 1 - jax.nn.sigmoid(logits))
        return -2 * jnp.where(counts & mask_B[:, None], jnp.log(likelihood), 0).sum()
    logits = jnp.where(counts, logits, -jnp.inf)
    rows = -jnp.diagonal(jax.nn.log_softmax(logits, 1))
    columns = -jnp.diagonal(jax.nn.log_softmax(logits, 0))
    return jnp.where(mask_B, rows + columns, 0).sum()


def dense_penalty(embed_BD, mask_B):
    """mean |E| / sqrt(sum E^2) over the valid rows."""
    valid = embed_BD[np.flatnonzero(mask_B)]
    return jnp.mean(jnp.abs(valid)) / jnp.sqrt(jnp.sum(valid**2))


def on(mesh, **settings):
    """loss(audio, text, log_scale, groups, mask, bias) of the objective with ``settings`` and what else it reports."""
    objective = make_contrastive(ObjectiveConfig(**settings), TOKENS, mesh)

    def loss(audio, text, log_scale, groups, mask, bias=None):
        outputs = {"audio_embed_BD": audio, "text_embed_BD": text, "logit_scale": log_scale}
        outputs |= {} if bias is None else {"logit_bias": bias}
        batch = {"recording": groups[:, 0], "caption_group": groups[:, 1], "mask": mask}
        return objective.loss(outputs, {}, batch)

    return loss


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


@pytest.mark.parametrize(
    ("devices", "fsdp", "tensor", "chunk"),
    [(1, 1, 1, 5), (2, 2, 1, 1024), (8, 2, 1, 5), (8, 1, 1, 2), (8, 2, 2, 1024)],
)
@pytest.mark.parametrize(
    ("loss", "reduction", "embed_reg"), [("info_nce", "mean", 0.0), ("info_nce", "sum", 1.0), ("siglip", "sum", 0.5)]
)
def test_equals_the_dense_loss_and_its_gradients(batch, devices, fsdp, tensor, chunk, loss, reduction, embed_reg):
    audio, text, groups, mask = batch
    mesh = make_mesh(MeshConfig(data=-1, fsdp=fsdp, tensor=tensor), jax.devices()[:devices])
    rows, whole = batch_sharding(mesh), replicated(mesh)
    settings = {"loss": loss, "reduction": reduction, "embed_reg": embed_reg, "chunk": chunk}
    sharded = on(mesh, **settings, learn_bias=loss == "siglip")

    def expected_loss(audio, text, log_scale, groups, mask, bias):
        value = dense(audio, text, jnp.exp(log_scale), bias if loss == "siglip" else 0.0, groups, mask, loss)
        value = value / (2 * mask.sum()) if reduction == "mean" else value
        return value + embed_reg * (dense_penalty(audio, batch[3]) + dense_penalty(text, batch[3]))

    with jax.enable_x64(True):
        args = (jnp.asarray(audio), jnp.asarray(text), jnp.log(jnp.asarray(14.0, jnp.float64)))
        args += (jnp.asarray(groups, jnp.int32), jnp.asarray(mask), jnp.asarray(-3.0, jnp.float64))
        places, inexact = (rows, rows, whole, rows, rows, whole), (0, 1, 2, 5)
        found = jax.jit(jax.value_and_grad(lambda *args: sharded(*args)[0], inexact), in_shardings=places)
        value, grads = found(*args)
        expected, expected_grads = jax.jit(jax.value_and_grad(expected_loss, inexact))(*args)
        alone = jax.jit(lambda *args: sharded(*args)[0], in_shardings=places)(*args)
        np.testing.assert_allclose([value, alone], expected, atol=1e-12, rtol=1e-13)
        for got, want in zip(grads, expected_grads, strict=True):
            np.testing.assert_allclose(got, want, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(("loss", "lowest"), [("info_nce", np.log(2)), ("siglip", np.log1p(np.exp(10.0)))])
def test_duplicates_are_not_negatives(loss, lowest):
    """Two clips with the same caption and the same embedding: without exclusion each pays for the other."""
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    embed = jnp.asarray([[1.0, 0.0], [1.0, 0.0]], jnp.float32)
    rest = (jnp.log(10.0), jnp.asarray([[0, 7], [1, 7]], jnp.int32), jnp.ones(2, bool))
    with_exclusion, told = jax.jit(on(mesh, loss=loss))(embed, embed, *rest)
    without, all_told = jax.jit(on(mesh, loss=loss, exclude_duplicates=False))(embed, embed, *rest)
    assert float(with_exclusion) == pytest.approx(0.0, abs=5e-5)
    assert (told["negatives"], told["no_negatives_share"]) == (0, 1)
    assert (all_told["negatives"], all_told["no_negatives_share"]) == (1, 0)
    np.testing.assert_allclose(without - with_exclusion, lowest, rtol=1e-5)


@pytest.mark.parametrize("loss", ["info_nce", "siglip"])
def test_memory_grows_with_the_chunk_not_with_the_batch_squared(loss):
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])

    def temporary(rows):
        embed = jax.ShapeDtypeStruct((rows, 16), jnp.float32)
        groups, mask = jax.ShapeDtypeStruct((rows, 2), jnp.int32), jax.ShapeDtypeStruct((rows,), jnp.bool_)
        gradient = jax.grad(lambda a, t, g, m: on(mesh, loss=loss, chunk=64)(a, t, jnp.log(10.0), g, m)[0])
        return jax.jit(gradient).lower(embed, embed, groups, mask).compile().memory_analysis().temp_size_in_bytes

    assert temporary(4096) / temporary(1024) < 6  # 16 if the matrix were held


@pytest.mark.parametrize("loss", ["info_nce", "siglip"])
def test_queries_hit_when_nothing_that_counts_is_nearer(batch, loss):
    audio, text, groups, mask = batch
    mesh = make_mesh(MeshConfig(), jax.devices()[:8])
    logits = audio @ text.T
    same = (groups[:, None] == groups[None]).any(-1) & ~np.eye(24, dtype=bool)
    logits[same | ~mask[None] | ~mask[:, None]] = -np.inf
    own = np.diagonal(logits)[mask]
    hits = (own >= logits.max(1)[mask]).sum() + (own >= logits.max(0)[mask]).sum()
    args = (jnp.asarray(audio, jnp.float32), jnp.asarray(text, jnp.float32), jnp.log(10.0))
    _, metrics = jax.jit(on(mesh, loss=loss, chunk=2))(*args, jnp.asarray(groups, jnp.int32), jnp.asarray(mask))
    np.testing.assert_allclose(metrics["accuracy"], hits / (2 * mask.sum()), rtol=1e-6)
    negatives = (np.isfinite(logits) & ~np.eye(24, dtype=bool)).sum(1)[mask]
    assert negatives.min() < negatives.max() == mask.sum() - 1
    np.testing.assert_allclose(metrics["negatives"], negatives.mean(), rtol=1e-6)
    assert metrics["no_negatives_share"] == 0


def test_embeddings_travel_once_and_their_gradients_never():
    """On 8 devices: two gathers of B x D numbers, and besides them only labels and one number per row and direction."""
    rows, width = 256, 128
    mesh = make_mesh(MeshConfig(), jax.devices()[:8])
    place, whole = batch_sharding(mesh), replicated(mesh)
    embed = jax.ShapeDtypeStruct((rows, width), jnp.float32)
    groups, mask = jax.ShapeDtypeStruct((rows, 2), jnp.int32), jax.ShapeDtypeStruct((rows,), jnp.bool_)
    gradient = jax.grad(lambda a, t, s, g, m: on(mesh)(a, t, s, g, m)[0], (0, 1, 2))
    shardings = {"in_shardings": (place, place, whole, place, place), "out_shardings": (place, place, whole)}
    lowered = jax.jit(gradient, **shardings).lower(embed, embed, jax.ShapeDtypeStruct((), jnp.float32), groups, mask)
    gathered = re.findall(r"= (?:f32|s32)\[(\d+),(\d+)\]\S* all-gather", lowered.compile().as_text())
    assert sorted((int(n), int(d)) for n, d in gathered) == [(rows, 2), (rows, 3), (rows, width), (rows, width)]
    assert not re.search(r"reduce-scatter|collective-permute|all-to-all", lowered.compile().as_text())


def test_a_bias_for_info_nce_is_refused():
    with pytest.raises(UserError, match="learn_bias=True has no effect on loss=info_nce"):
        on(make_mesh(MeshConfig(), jax.devices()[:1]), learn_bias=True)


@pytest.mark.parametrize(("setting", "value"), [("loss", "siglp"), ("reduction", "men")])
def test_unknown_names_are_refused(batch, setting, value):
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    with pytest.raises(UserError, match=f"config.objective.{setting} '{value}' .did you mean"):
        on(mesh, **{setting: value})(*map(jnp.asarray, batch[:2]), jnp.log(10.0), *map(jnp.asarray, batch[2:]))


def test_captions_are_wrapped():
    text, length = wrap_caption(jnp.asarray([[7, 8, 0], [9, 0, 0], [5, 6, 7]]), jnp.asarray([2, 1, 3]), TOKENS)
    assert text.tolist() == [[1, 7, 8, 2, 0], [1, 9, 2, 0, 0], [1, 5, 6, 7, 2]]
    assert length.tolist() == [4, 3, 5]


@pytest.mark.parametrize("learn", [True, False])
def test_temperature_is_learnt_or_fixed_and_clamped(batch, learn):
    audio, text, groups, mask = (jnp.asarray(x) for x in batch)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    objective = on(mesh, learn_temperature=learn, max_logit_scale=50.0)

    def loss(log_scale):
        return objective(audio, text, log_scale, groups, mask)

    compiled = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, metrics), gradient = compiled(jnp.log(20.0))
    assert (float(gradient) != 0) == learn
    np.testing.assert_allclose(metrics["logit_scale"], 20.0, rtol=1e-6)
    np.testing.assert_allclose(compiled(jnp.log(80.0))[0][1]["logit_scale"], 50.0, rtol=1e-6)
