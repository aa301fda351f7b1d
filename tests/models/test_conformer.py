"""The Conformer against a second implementation in numpy, float64, written from its description, not from the code."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.config.schema import ConformerConfig
from alp_jax.models.conformer import Conformer, by_source
from alp_jax.models.functional import functionalize

CONFIG = ConformerConfig(
    feature_dim=10,
    subsampling_channels=3,
    width=8,
    num_layers=2,
    num_heads=2,
    ff_dim=12,
    kernel=5,
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


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def swish(x):
    return x * sigmoid(x)


def halve(p, x_TFC):
    """3x3 convolution around every second frame and bin, zeros outside, ReLU."""
    num_frames, num_bins, _ = x_TFC.shape
    y = np.zeros((math.ceil(num_frames / 2), math.ceil(num_bins / 2), p["bias"].size))
    for t in range(y.shape[0]):
        for f in range(y.shape[1]):
            y[t, f] = p["bias"]
            for i in (-1, 0, 1):
                for j in (-1, 0, 1):
                    if 0 <= 2 * t + i < num_frames and 0 <= 2 * f + j < num_bins:
                        y[t, f] += x_TFC[2 * t + i, 2 * f + j] @ p["kernel"][i + 1, j + 1]
    return np.maximum(y, 0)


def offset_code(offset, width):
    angles = [offset / 10000 ** (2 * i / width) for i in range(width // 2)]
    return np.array([math.sin(a) for a in angles] + [math.cos(a) for a in angles])


def feed_forward(p, x):
    return affine(p["out_proj"], swish(affine(p["in_proj"], norm(p["norm"], x))))


def attention(p, x, config):
    """Content and relative position, one target and one source at a time."""
    size, y = config.width // config.num_heads, norm(p["norm"], x)
    query, key, value = (affine(p[name], y) for name in ("query", "key", "value"))
    mixed = np.zeros_like(x)
    for head in range(config.num_heads):
        part = slice(head * size, (head + 1) * size)
        scores = np.zeros((len(x), len(x)))
        for target in range(len(x)):
            for source in range(len(x)):
                position = affine(p["positions"]["proj"], offset_code(source - target, config.width))
                content = query[target, part] @ key[source, part]
                moved = query[target, part] + p["positions"]["bias"][part]
                scores[target, source] = (content + moved @ position[part]) / math.sqrt(size)
        weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        mixed[:, part] = weights @ value[:, part]
    return affine(p["out_proj"], mixed)


def convolution(p, x, config):
    width, half = config.width, config.kernel // 2
    doubled = affine(p["in_proj"], norm(p["norm"], x))
    gated = doubled[:, :width] * sigmoid(doubled[:, width:])
    mixed = np.tile(p["depthwise_conv"]["bias"].astype(np.float64), (len(x), 1))
    for t in range(len(x)):
        for k in range(config.kernel):
            if 0 <= t + k - half < len(x):
                mixed[t] += gated[t + k - half] * p["depthwise_conv"]["kernel"][k]
    return affine(p["out_proj"], swish(norm(p["mid_norm"], mixed)))


def numpy_conformer(params, mel_TF, config):
    """frames_TD of one clip."""
    x = ((mel_TF - config.mel_mean) / config.mel_std)[:, :, None]
    for name in ("conv1", "conv2"):
        x = halve(params["subsampling"][name], x)
    x = affine(params["subsampling"]["out_proj"], x.reshape(len(x), -1))
    for block in params["blocks"].values():
        x = x + feed_forward(block["feed_forward1"], x) / 2
        x = x + attention(block["attention"], x, config)
        x = x + convolution(block["convolution"], x, config)
        x = x + feed_forward(block["feed_forward2"], x) / 2
        x = norm(block["norm"], x)
    return x


@pytest.mark.parametrize("length", [37, 32, 2])
@pytest.mark.parametrize("form", ["shift", "lax"])
def test_numpy_agrees(length, form):
    init, apply = functionalize(lambda rngs: Conformer(CONFIG, rngs=rngs, depthwise=form))
    params = random_params(init)
    mel_1TF = 2.0 * np.random.default_rng(0).standard_normal((1, length, 10)).astype(np.float32) - 3.0
    frames_BTD, len_B = jax.jit(apply)(params, mel_1TF, np.array([length]))
    want_TD = numpy_conformer(params, mel_1TF[0], CONFIG)
    assert len_B.tolist() == [len(want_TD)]
    np.testing.assert_allclose(frames_BTD[0], want_TD, atol=2e-5)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_scores_by_offset_become_scores_by_source(length):
    scores = np.random.default_rng(0).standard_normal((2, 3, length, 2 * length - 1))
    found = by_source(jnp.asarray(scores, jnp.float32))
    for target in range(length):
        for source in range(length):
            column = length - 1 + source - target
            np.testing.assert_allclose(found[:, :, target, source], scores[:, :, target, column], rtol=1e-6)
