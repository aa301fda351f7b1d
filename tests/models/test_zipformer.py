"""The Zipformer: independence of padding, chunks, start values, sizes, types."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.config.schema import ModelConfig, ZipformerConfig
from alp_jax.core.errors import UserError
from alp_jax.models.accounting import encoder_flops, parameters
from alp_jax.models.functional import functionalize, outline
from alp_jax.models.regularisers import Draws
from alp_jax.models.zipformer.encoder import Zipformer

TINY = ZipformerConfig(
    feature_dim=16,
    num_encoder_layers=(1, 2),
    downsampling_factor=(1, 4),
    encoder_dim=(16, 12),
    encoder_unmasked_dim=(16, 12),
    feedforward_dim=(16,),
    num_heads=(2,),
    query_head_dim=(4,),
    value_head_dim=(4,),
    pos_dim=8,
    cnn_module_kernel=(5,),
    frontend_channels=(2, 3, 4),
)


def build(config: ZipformerConfig, **kw):
    return functionalize(lambda rngs: Zipformer(config, rngs=rngs, **kw))


def random_params(init) -> dict:
    """Values that hide nothing, without compiling the real start."""
    rng = np.random.default_rng(0)

    def draw(shape):
        return (0.5 / math.sqrt(math.prod(shape.shape[:-1])) * rng.standard_normal(shape.shape)).astype(np.float32)

    return jax.tree.map(draw, jax.eval_shape(init, jax.random.key(0)))


def named(tree) -> dict:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def test_a_training_step_draws_chunk_size_and_left_context():
    """The step is that of a model whose only sizes are those that were drawn."""
    mel_BTF = np.random.default_rng(1).standard_normal((2, 90, 16)).astype(np.float32)

    def make(chunks, lefts):
        config = ZipformerConfig(**{**vars(TINY), "causal": True, "chunk_size": chunks, "left_context_frames": lefts})
        init, apply = build(config)
        draw_counts = outline(lambda rngs: Zipformer(config, rngs=rngs)).draw_counts

        @jax.jit
        def step(drawn):
            scalars = jnp.concatenate([drawn, jnp.full(draw_counts.scalars - len(drawn), 0.5)])
            channels = jax.random.uniform(jax.random.key(3), (2, draw_counts.channels))
            pools = scalars, jnp.full((draw_counts.clips, 2), 0.9), channels, jnp.ones(draw_counts.whitenings)
            train = Draws(jax.random.key(3), 9000.0, *pools)
            return apply(random_params(init), mel_BTF, np.array([90, 61]), train=train)[0]

        return step

    drawing, results = make((8, -1), (16, 32)), []
    for drawn, chunk, left in (((0.1, 0.2), 8, 16), ((0.4, 0.7), 8, 32), ((0.9, 0.2), -1, 16)):
        results.append(drawing(jnp.array(drawn)))
        np.testing.assert_allclose(results[-1], make((chunk,), (left,))(jnp.zeros(0)), atol=1e-5)
    assert min(np.abs(results[0] - other).max() for other in results[1:]) > 1e-4


@pytest.mark.parametrize("chunk", [None, -1, 8], ids=["symmetric", "causal", "chunks"])
def test_a_clip_is_embedded_alike_in_any_batch(chunk):
    """Exact padding equals the reference's on the clip alone, whatever garbage follows the clip."""
    config = TINY
    if chunk is not None:
        config = ZipformerConfig(**{**vars(TINY), "causal": True, "chunk_size": (chunk,)})
    init, apply = build(config)
    params = random_params(init)
    rng = np.random.default_rng(0)
    len_B = np.array([71, 50, 3], np.int32)
    mel_BTF = 100.0 * rng.standard_normal((3, 84, 16)).astype(np.float32)
    for row, length in enumerate(len_B):
        mel_BTF[row, :length] = rng.standard_normal((length, 16))
    run = jax.jit(apply, static_argnames="padding")
    frames_BTD, frames_len_B = run(params, mel_BTF, len_B)
    assert frames_len_B.tolist() == [16, 11, 1]
    for row, length in ((1, 50), (2, 9)):  # a clip of three frames counts as nine, the last one repeated
        mel_1TF = mel_BTF[row : row + 1, :length].copy()
        mel_1TF[:, len_B[row] :] = mel_1TF[:, len_B[row] - 1 : len_B[row]]
        alone_BTD, alone_len_B = run(params, mel_1TF, np.array([length]), padding="reference")
        assert alone_len_B[0] == frames_len_B[row] == alone_BTD.shape[1]
        np.testing.assert_allclose(frames_BTD[row, : frames_len_B[row]], alone_BTD[0], atol=1e-5)
    if chunk is None:
        reference_BTD, _ = run(params, mel_BTF, len_B, padding="reference")
        assert np.abs(frames_BTD[1, :11] - reference_BTD[1, :11]).max() > 1e-2  # there, padding leaks in
        tight_BTD, tight_len_B = run(params, mel_BTF[2:, :3], len_B[2:])
        np.testing.assert_allclose(tight_BTD[0, 0], frames_BTD[2, 0], atol=1e-5)
        assert tight_len_B.tolist() == [1]


def test_default_is_zipformer_m():
    shapes = jax.eval_shape(build(ZipformerConfig())[0], jax.random.key(0))
    assert parameters(shapes) == 65_913_719
    assert len(jax.tree.leaves(shapes)) == 731
    assert abs(encoder_flops(ModelConfig(), 10.0) / 19.89e9 - 1) < 0.02
    dead = [name for name in named(shapes) if name.split("/")[-2].isdigit()]
    assert len(dead) == 16
    assert "encoders/1/layers/0/feed_forward1/in_proj/kernel" in named(shapes)


def test_start_values_follow_the_reference():
    config = ZipformerConfig(**{**vars(TINY), "encoder_dim": (64, 64), "query_head_dim": (16,)})
    params = named(jax.jit(build(config)[0])(jax.random.key(0)))
    layer = "encoders/1/layers/0/"
    bounds = {  # uniform within these
        layer + "self_attn_weights/in_proj/kernel": 16**-0.25 / 8,
        layer + "self_attn_weights/in_proj/bias": 0.1 * 16**-0.25,
        layer + "self_attn1/out_proj/bias": 0.1 * 0.05,
        layer + "feed_forward2/in_proj/kernel": 1 / 8,
        layer + "feed_forward2/out_proj/bias": 0.01,
        layer + "conv_module1/out_proj/kernel": 0.05 / 8,
        layer + "conv_module1/depthwise_conv/kernel": 5**-0.5,
        "encoder_embed/conv4/kernel": 18**-0.5,
        "encoder_embed/convnext/pointwise_conv2/kernel": 0.01 / 12**0.5,
    }
    for name, bound in bounds.items():
        assert 0.8 * bound < jnp.abs(params[name]).max() <= bound, name
    assert jnp.all(params[layer + "bypass/bypass_scale"] == 0.5)
    assert params[layer + "norm/log_scale"] == 1.0
    assert jnp.abs(params[layer + "norm/bias"]).max() < 1e-3
    for name in params:
        if name.startswith(layer):  # all layers of a stack start alike
            np.testing.assert_array_equal(params[name], params[name.replace("/0/", "/1/")])
    assert jnp.any(params[layer + "self_attn1/in_proj/kernel"] != params[layer + "self_attn2/in_proj/kernel"])


def test_bfloat16_stays_close_and_parameters_stay_float32():
    init, apply = build(TINY)
    params = random_params(init)
    mel_BTF = np.random.default_rng(0).standard_normal((1, 40, 16)).astype(np.float32)
    frames_BTD, _ = jax.jit(apply)(params, mel_BTF, np.array([40]))
    half_init, half_apply = build(TINY, dtype=jnp.bfloat16)
    half_BTD, _ = jax.jit(half_apply)(params, mel_BTF, np.array([40]))
    assert half_BTD.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(half_init, jax.random.key(0)))} == {
        jnp.dtype("float32")
    }
    assert np.abs(half_BTD.astype(np.float32) - frames_BTD).max() < 0.1


@pytest.mark.parametrize(
    ("changes", "knob"),
    [
        ({"num_heads": (2, 2, 2)}, "num_heads"),
        ({"cnn_module_kernel": (4,)}, "cnn_module_kernel"),
        ({"causal": True, "chunk_size": (6,)}, "chunk_size"),
        ({"causal": True, "chunk_size": (4, 6)}, "chunk_size"),
        ({"causal": True, "chunk_size": (4,), "left_context_frames": (4,)}, "left_context_frames"),
        ({"pos_dim": 7}, "pos_dim"),
    ],
)
def test_sizes_that_do_not_fit_name_the_knob(changes, knob):
    with pytest.raises(UserError, match=f"model.encoder.{knob}"):
        build(ZipformerConfig(**{**vars(TINY), **changes}))
