"""What every audio encoder owes its callers, on tiny sizes: nothing but a clip decides what comes out for it."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from alp_jax.config.schema import ConformerConfig, MeshConfig, ModelConfig, ViTConfig, ZipformerConfig
from alp_jax.config.schema.model import ENCODER_KINDS
from alp_jax.core.errors import UserError
from alp_jax.models.encoders import check_features, encoder_frames, encoder_spec, make_encoder, output_dim
from alp_jax.models.functional import functionalize
from alp_jax.models.regularisers import DrawCounts, TrainInputs
from alp_jax.parallel.mesh import make_mesh
from alp_jax.parallel.rules import infer_shardings

BINS = 16
OTHERS = tuple(kind for kind in ENCODER_KINDS if kind != "zipformer")  # whose padding has tests of its own
TRANSFORMERS = ("vit", "conformer")
TINY = ModelConfig(
    encoder=ZipformerConfig(
        feature_dim=BINS,
        num_encoder_layers=(1,),
        downsampling_factor=(2,),
        encoder_dim=(16,),
        encoder_unmasked_dim=(16,),
        feedforward_dim=(16,),
        num_heads=(2,),
        query_head_dim=(4,),
        value_head_dim=(4,),
        pos_dim=8,
        cnn_module_kernel=(5,),
        frontend_channels=(2, 3, 4),
    ),
    vit=ViTConfig(feature_dim=BINS, patch_bins=8, width=16, num_layers=2, num_heads=2, mlp_dim=24),
    conformer=ConformerConfig(
        feature_dim=BINS, subsampling_channels=4, width=16, num_layers=2, num_heads=2, ff_dim=24, kernel=7
    ),
    depthwise_form="shift",
)


def build(kind, dtype=jnp.float32, **changes):
    config = dataclasses.replace(TINY, encoder_kind=kind, **changes)
    return functionalize(lambda rngs: make_encoder(config, rngs=rngs, dtype=dtype))


def random_params(init) -> dict:
    """Values that hide nothing, without compiling the real start; every bias and every scale is its own."""
    rng = np.random.default_rng(0)

    def draw(shape):
        return (0.8 / math.sqrt(math.prod(shape.shape[:-1])) * rng.standard_normal(shape.shape)).astype(np.float32)

    return jax.tree.map(draw, jax.eval_shape(init, jax.random.key(0)))


def clips(lengths, longest, garbage=100.0):
    """(mel_BTF, len_B): clips in the range of log-mel, followed by what no clip holds."""
    rng = np.random.default_rng(1)
    mel_BTF = garbage * rng.standard_normal((len(lengths), longest, BINS)).astype(np.float32)
    for row, length in enumerate(lengths):
        mel_BTF[row, :length] = 4.5 * rng.standard_normal((length, BINS)) - 4.0
    return mel_BTF, np.array(lengths, np.int32)


@functools.cache
def ready(kind):
    """(params, jitted apply)."""
    init, apply = build(kind)
    return random_params(init), jax.jit(apply)


@pytest.mark.parametrize("kind", ENCODER_KINDS)
def test_the_file_of_its_name_says_what_it_is(kind):
    assert encoder_spec(dataclasses.replace(TINY, encoder_kind=kind)).kind == kind


@pytest.mark.parametrize("kind", OTHERS)
def test_a_clip_is_embedded_alike_in_any_batch(kind):
    """Alone, or beside longer clips with garbage behind it; below a patch, at its edges and beyond."""
    params, apply = ready(kind)
    lengths = [70, 48, 33, 15, 1]
    mel_BTF, len_B = clips(lengths, 83)
    frames_BTD, frames_len_B = apply(params, mel_BTF, len_B)
    config = dataclasses.replace(TINY, encoder_kind=kind)
    assert frames_len_B.tolist() == [encoder_frames(config, length) for length in lengths]
    for row, length in enumerate(lengths):
        alone_BTD, alone_len_B = apply(params, mel_BTF[row : row + 1, :length], len_B[row : row + 1])
        count = alone_len_B[0]
        assert 1 <= count <= alone_BTD.shape[1]
        np.testing.assert_allclose(frames_BTD[row, :count], alone_BTD[0, :count], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", OTHERS)
def test_clips_keep_their_embeddings_when_the_batch_is_shuffled(kind):
    params, apply = ready(kind)
    mel_BTF, len_B = clips([70, 49, 48, 33, 16, 15, 5, 4, 1], 83)
    order = np.random.default_rng(2).permutation(len(len_B))
    frames_BTD, _ = apply(params, mel_BTF, len_B)
    shuffled_BTD, _ = apply(params, mel_BTF[order], len_B[order])
    np.testing.assert_allclose(shuffled_BTD, frames_BTD[order], atol=1e-5)


@pytest.mark.parametrize("kind", ["zipformer", *TRANSFORMERS])
def test_frames_reach_each_other_and_know_where_they_are(kind):
    """Two patches that change places do not just change places in the output, and the last frames reach the first."""
    params, apply = ready(kind)
    mel_BTF, len_B = clips([64], 64)
    frames_BTD, _ = apply(params, mel_BTF, len_B)
    assert frames_BTD.shape[2] == output_dim(dataclasses.replace(TINY, encoder_kind=kind))
    swapped_BTF = np.concatenate([mel_BTF[:, 32:], mel_BTF[:, :32]], axis=1)
    swapped_BTD, _ = apply(params, swapped_BTF, len_B)
    assert np.abs(swapped_BTD[0, 8:12] - frames_BTD[0, :4]).max() > 1e-2
    other_BTF = mel_BTF.copy()
    other_BTF[0, 60:] += 5.0
    assert np.abs(apply(params, other_BTF, len_B)[0][0, 0] - frames_BTD[0, 0]).max() > 1e-4


@pytest.mark.parametrize("kind", OTHERS)
def test_a_gradient_reaches_every_parameter_and_nothing_behind_the_clips(kind):
    init, apply = build(kind)
    params, (mel_BTF, len_B) = random_params(init), clips([70, 33, 5], 80)

    def score(params, mel_BTF):
        frames_BTD, frames_len_B = apply(params, mel_BTF, len_B)
        inside_BT = jnp.arange(frames_BTD.shape[1]) < frames_len_B[:, None]
        return jnp.sum(jnp.sin(frames_BTD + jnp.arange(16)) * inside_BT[:, :, None])

    grads, mel_grad = jax.jit(jax.grad(score, argnums=(0, 1)))(params, mel_BTF)
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert np.abs(grad).max() > 1e-4, jax.tree_util.keystr(path, simple=True, separator="/")
    for row, length in enumerate(len_B):
        assert np.all(np.abs(mel_grad[row, :length]).max(axis=1) > 0)
        assert not np.any(mel_grad[row, length:])


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_recomputing_changes_no_gradient_and_draws_the_same_dropout(kind):
    shallow = {kind: dataclasses.replace(getattr(TINY, kind), num_layers=1)}
    params, (mel_BTF, len_B) = random_params(build(kind, **shallow)[0]), clips([24], 24)
    train = TrainInputs(jax.random.key(3), jnp.float32(0), jnp.ones(1))

    def gradient(remat):
        _, apply = build(kind, remat="layers" if remat else "none", **shallow)
        return jax.grad(lambda params: jnp.sum(jnp.sin(apply(params, mel_BTF, len_B, train=train)[0])))

    recomputing, keeping = jax.jit(gradient(True)), jax.jit(gradient(False))
    assert str(recomputing.trace(params).jaxpr).count("remat2[") == 1
    assert str(keeping.trace(params).jaxpr).count("remat2[") == 0
    pairs = jax.tree.map(lambda a, b: np.abs(a - b).max() / np.abs(b).max(), recomputing(params), keeping(params))
    assert max(jax.tree.leaves(pairs)) < 1e-4


@pytest.mark.parametrize("kind", OTHERS)
def test_bfloat16_stays_close_and_parameters_stay_float32(kind):
    params, apply = ready(kind)
    half_init, half_apply = build(kind, dtype=jnp.bfloat16)
    mel_BTF, len_B = clips([70, 33], 70)
    frames_BTD, frames_len_B = apply(params, mel_BTF, len_B)
    half_BTD, _ = jax.jit(half_apply)(params, mel_BTF, len_B)
    assert half_BTD.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(half_init, jax.random.key(0)))} == {
        jnp.dtype("float32")
    }
    for row, count in enumerate(frames_len_B):
        gap = np.abs(half_BTD[row, :count].astype(np.float32) - frames_BTD[row, :count])
        assert gap.max() < 0.05 * np.abs(frames_BTD[row, :count]).max()
        assert gap.max() > 0


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_only_a_training_step_draws_dropout_and_only_from_its_key(kind):
    params, _ = ready(kind)
    config = dataclasses.replace(TINY, encoder_kind=kind)
    _, apply = build(kind)
    apply = jax.jit(apply)
    mel_BTF, len_B = clips([70, 33], 70)

    def run(seed, whitening=1.0, batch_count=0.0):
        train = TrainInputs(jax.random.key(seed), jnp.float32(batch_count), jnp.full(1, whitening))
        return np.asarray(apply(params, mel_BTF, len_B, train=train)[0])

    plain = np.asarray(apply(params, mel_BTF, len_B)[0])
    np.testing.assert_array_equal(run(1), run(1, whitening=0.0, batch_count=9e4))
    assert np.abs(run(1) - run(2)).max() > 1e-2
    assert np.abs(run(1) - plain).max() > 1e-2
    rates = {"dropout": 0.0, "attention_dropout": 0.0} if kind == "vit" else {"dropout": 0.0}
    none = build(kind, **{kind: dataclasses.replace(getattr(config, kind), **rates)})[1]
    train = TrainInputs(jax.random.key(1), jnp.float32(0), jnp.ones(1))
    np.testing.assert_allclose(jax.jit(none)(params, mel_BTF, len_B, train=train)[0], plain, atol=1e-5)


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_eight_devices_compute_what_one_does(kind):
    """Every parameter has a sharding rule; wide enough that some are split."""
    wide = {"width": 64, "num_heads": 4}
    config = getattr(TINY, kind)
    hidden = {"mlp_dim": 128} if kind == "vit" else {"ff_dim": 128}
    init, apply = build(kind, **{kind: dataclasses.replace(config, **wide, **hidden)})
    params, (mel_BTF, len_B) = random_params(init), clips([70, 49, 48, 33, 16, 5, 4, 1], 80)
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))
    shardings = infer_shardings({"params": params}, mesh)["params"]
    assert any("fsdp" in sharding.spec for sharding in jax.tree.leaves(shardings))
    rows = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    eight_BTD, eight_len_B = jax.jit(apply, in_shardings=(shardings, rows, rows))(params, mel_BTF, len_B)
    assert len(eight_BTD.sharding.device_set) == 8
    one = NamedSharding(Mesh(np.array(jax.devices()[:1]), ("data",)), PartitionSpec())
    one_BTD, one_len_B = jax.jit(apply, in_shardings=one)(params, mel_BTF, len_B)
    np.testing.assert_array_equal(eight_len_B, one_len_B)
    np.testing.assert_allclose(np.asarray(eight_BTD), np.asarray(one_BTD), atol=2e-5)


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_there_is_no_whitening_state(kind):
    draw_counts = []
    config = dataclasses.replace(TINY, encoder_kind=kind)

    def make(rngs):
        encoder = make_encoder(config, rngs=rngs)
        draw_counts.append(encoder.draw_counts)
        return encoder

    functionalize(make)
    assert draw_counts == [DrawCounts()]


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_reference_padding_belongs_to_the_zipformer(kind):
    params, _ = ready(kind)
    mel_BTF, len_B = clips([20], 20)
    with pytest.raises(UserError, match=f"padding of a {kind} encoder 'reference'"):
        build(kind)[1](params, mel_BTF, len_B, padding="reference")


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("vot", {}, r"unknown config\.model\.encoder_kind 'vot' \(did you mean 'vit'"),
        ("vit", {"patch_bins": 7}, "model.vit.feature_dim=16 must be a multiple of model.vit.patch_bins=7"),
        ("vit", {"frame_stride": 3}, "model.vit.patch_frames=16 .* model.vit.frame_stride=3"),
        ("vit", {"num_heads": 3}, "model.vit.width=16 .* model.vit.num_heads=3"),
        ("vit", {"num_heads": 0}, "model.vit.num_heads=0"),
        ("vit", {"width": 15, "num_heads": 3}, "model.vit.width=15 must be even"),
        ("conformer", {"num_heads": 3}, "model.conformer.width=16 .* model.conformer.num_heads=3"),
        ("conformer", {"kernel": 6}, "model.conformer.kernel=6 must be an odd"),
    ],
)
def test_sizes_that_do_not_fit_name_the_knob(kind, changes, message):
    config = {kind: dataclasses.replace(getattr(TINY, kind), **changes)} if changes else {}
    with pytest.raises(UserError, match=message):
        build(kind, **config)


@pytest.mark.parametrize("kind", ENCODER_KINDS)
def test_features_of_another_size_are_refused(kind):
    config = dataclasses.replace(TINY, encoder_kind=kind)
    check_features(config, BINS)
    section = encoder_spec(config).section
    with pytest.raises(UserError, match=rf"config\.model\.{section}\.feature_dim is 16 but .*num_mel_bins is 15"):
        check_features(config, 15)
