"""The ViT against a second implementation in numpy, float64, written from its description, not from the code."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from alp_jax.config.schema import ViTConfig
from alp_jax.models.functional import functionalize
from alp_jax.models.vit import ViT

CONFIG = ViTConfig(
    feature_dim=12,
    patch_frames=6,
    patch_bins=4,
    frame_stride=2,
    width=8,
    num_layers=2,
    num_heads=2,
    mlp_dim=10,
    mel_mean=-3.0,
    mel_std=2.0,
)


def random_params(init):
    rng = np.random.default_rng(3)
    shapes = jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(lambda leaf: 0.5 * rng.standard_normal(leaf.shape).astype(np.float32), shapes)


def affine(p, x):
    return x @ p["kernel"].astype(np.float64) + p.get("bias", 0.0)


def norm(p, x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]


def gelu(x):  # the tanh form of Hendrycks and Gimpel
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def softmax(x):
    weights = np.exp(x - x.max())
    return weights / weights.sum()


def patches_of(mel_TF, config):
    """Patch by patch: (step, row) -> its numbers, frames outermost; zeros behind the end."""
    frames, bins = config.patch_frames, config.patch_bins
    steps = math.ceil(len(mel_TF) / frames)
    scaled = np.zeros((steps * frames, mel_TF.shape[1]))
    scaled[: len(mel_TF)] = (mel_TF - config.mel_mean) / config.mel_std
    return {
        (step, row): [scaled[step * frames + t, row * bins + f] for t in range(frames) for f in range(bins)]
        for step in range(steps)
        for row in range(mel_TF.shape[1] // bins)
    }


def time_code(step, width):
    half = width // 2
    angles = [step / 10000 ** (2 * i / width) for i in range(half)]
    return np.array([math.sin(a) for a in angles] + [math.cos(a) for a in angles])


def numpy_vit(params, mel_TF, config):
    """frames_TD of one clip."""
    patches = patches_of(mel_TF, config)
    width, size = config.width, config.width // config.num_heads
    x = np.stack(
        [
            affine(params["patch_proj"], np.array(patch))
            + time_code(step, width)
            + params["frequencies"]["embedding"][row]
            for (step, row), patch in patches.items()
        ]
    )
    for block in params["blocks"].values():
        attention, feed_forward = block["attention"], block["feed_forward"]
        y = norm(attention["norm"], x)
        query, key, value = (affine(attention[name], y) for name in ("query", "key", "value"))
        mixed = np.zeros_like(x)
        for head in range(config.num_heads):
            part = slice(head * size, (head + 1) * size)
            for target in range(len(x)):
                weights = softmax(key[:, part] @ query[target, part] / math.sqrt(size))
                mixed[target, part] = weights @ value[:, part]
        x = x + affine(attention["out_proj"], mixed)
        hidden = gelu(affine(feed_forward["in_proj"], norm(feed_forward["norm"], x)))
        x = x + affine(feed_forward["out_proj"], hidden)
    x = norm(params["norm"], x)
    rows = config.feature_dim // config.patch_bins
    columns = [np.concatenate(x[first : first + rows]) for first in range(0, len(x), rows)]
    frames = [affine(params["out_proj"], column) for column in columns]
    return np.concatenate([frame.reshape(-1, width) for frame in frames])[
        : math.ceil(len(mel_TF) / config.frame_stride)
    ]


@pytest.mark.parametrize("length", [31, 24, 3])
def test_numpy_agrees(length):
    init, apply = functionalize(lambda rngs: ViT(CONFIG, rngs=rngs))
    params = random_params(init)
    mel_1TF = 2.0 * np.random.default_rng(0).standard_normal((1, length, 12)).astype(np.float32) - 3.0
    frames_BTD, len_B = jax.jit(apply)(params, mel_1TF, np.array([length]))
    want_TD = numpy_vit(params, mel_1TF[0], CONFIG)
    assert len_B.tolist() == [len(want_TD)]
    np.testing.assert_allclose(frames_BTD[0, : len(want_TD)], want_TD, atol=2e-5)


def test_a_frame_per_column_is_a_matter_of_the_stride():
    config = dataclasses.replace(CONFIG, frame_stride=6)
    init, apply = functionalize(lambda rngs: ViT(config, rngs=rngs))
    frames_BTD, len_B = jax.eval_shape(
        apply, jax.eval_shape(init, jax.random.key(0)), np.zeros((1, 31, 12)), np.array([31])
    )
    assert frames_BTD.shape == (1, 6, 8)
    assert len_B.shape == (1,)
