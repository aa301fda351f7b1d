"""SpecAugment's pieces against the reference, and its independence of the batch."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.config.schema import SpecAugmentConfig
from alp_jax.features import spec_augment as module
from alp_jax.features.spec_augment import span_mask, spec_augment, time_mask_limits, time_warp

GOLDEN = np.load(pathlib.Path(__file__).parent / "golden" / "spec_augment.npz")
CONFIG = SpecAugmentConfig(probability=1.0)
augment = jax.jit(lambda mel_BTF, len_B, key: spec_augment(mel_BTF, len_B, key, CONFIG))
warp = jax.jit(time_warp)


@pytest.mark.parametrize(("name", "center", "warped"), [("warp0", 120, 150), ("warp1", 150, 100)])
def test_warp_matches_the_reference_and_leaves_padding(name, center, warped):
    mel_TF = GOLDEN["in.x"]
    padded = np.concatenate([mel_TF, np.full((9, mel_TF.shape[1]), 1e9, np.float32)])
    result = np.asarray(warp(padded, len(mel_TF), center, warped))
    # float32 positions up to 300 are off by 2e-5 frames, and values differ by about one from frame to frame
    np.testing.assert_allclose(result[: len(mel_TF)], GOLDEN[name], atol=4e-5)
    assert np.all(result[len(mel_TF) :] == 1e9)


@pytest.mark.parametrize(("name", "axis"), [("mask.axis1.n3", 0), ("mask.axis2.n2", 1)])
def test_masks_match_the_reference(name, axis):
    mel_TF = GOLDEN["in.x"]
    size = mel_TF.shape[axis]
    hidden = np.asarray(span_mask(size, size, GOLDEN[f"{name}.widths"][0], GOLDEN[f"{name}.u"][0]))
    hidden = hidden[:, None] if axis == 0 else hidden
    np.testing.assert_allclose(np.where(hidden, mel_TF.mean(), mel_TF), GOLDEN[name], atol=1e-6)


def test_number_and_width_of_time_masks_follow_the_length():
    limits = {length: tuple(int(x) for x in time_mask_limits(length, CONFIG)) for length in (100, 500, 1000, 3000)}
    assert limits == {100: (1, 15), 500: (1, 75), 1000: (2, 75), 3000: (5, 90)}


def test_a_clip_is_augmented_alike_in_any_padding_and_padding_stays():
    mel_BTF = np.random.default_rng(0).standard_normal((4, 300, 16)).astype(np.float32)
    len_B = np.array([300, 220, 40, 0], np.int32)
    key = jax.random.key(3)
    result = np.asarray(augment(mel_BTF, len_B, key))
    other = np.random.default_rng(1).standard_normal((4, 340, 16)).astype(np.float32)
    for row, length in enumerate(len_B):
        other[row, :length] = mel_BTF[row, :length]
    longer = np.asarray(augment(other, len_B, key))
    for row, length in enumerate(len_B):
        np.testing.assert_allclose(result[row, :length], longer[row, :length], atol=1e-5)
        np.testing.assert_array_equal(longer[row, length:], other[row, length:])
    assert np.isfinite(result).all()
    assert all((result[row, :length] != mel_BTF[row, :length]).any() for row, length in enumerate(len_B[:3]))
    assert (np.asarray(augment(mel_BTF, len_B, jax.random.key(4))) != result).any()


def test_a_mask_holds_the_mean_of_the_clip_alone():
    mel_BTF = np.full((1, 300, 16), 5.0, np.float32)
    mel_BTF[:, 200:] = -23.0
    result = np.asarray(augment(mel_BTF, np.array([200], np.int32), jax.random.key(0)))
    np.testing.assert_allclose(result[:, :200], 5.0, atol=1e-4)


def test_off_changes_nothing():
    mel_BTF = np.ones((1, 30, 4), np.float32)
    assert spec_augment(mel_BTF, np.array([30]), jax.random.key(0), SpecAugmentConfig(enabled=False)) is mel_BTF


def drawn(monkeypatch, length, config, clips=3000):
    """(center, warped) that each of many clips of ``length`` frames drew, 0 where it was not warped."""

    def show(mel_TF, length, center, warped):
        return jnp.zeros_like(mel_TF).at[0, 0].set(center).at[0, 1].set(warped)

    monkeypatch.setattr(module, "time_warp", show)
    augmented = jax.jit(lambda mel, key: spec_augment(mel, jnp.full(clips, length), key, config))
    shown = augmented(jnp.zeros((clips, length, 2)), jax.random.key(0))
    return np.asarray(shown[:, 0]).astype(int)


def test_a_warp_takes_every_point_that_the_reference_allows_and_no_other(monkeypatch):
    """Lhotse's: a center from factor + 1 to length - factor - 1, moved by up to factor frames either way."""
    config = SpecAugmentConfig(probability=1.0, time_warp=3, num_feature_masks=0, num_time_masks=0)
    pairs = {tuple(pair) for pair in drawn(monkeypatch, 10, config).tolist()}
    assert pairs == {(center, center + by) for center in (4, 5, 6) for by in range(-3, 4)}
    assert not drawn(monkeypatch, 7, config, clips=9).any()  # length - factor must exceed factor + 1
    assert drawn(monkeypatch, 8, config, clips=9)[:, 0].tolist() == [4] * 9


def test_nine_clips_of_ten_are_warped_and_nine_of_ten_masked_independently(monkeypatch):
    config = SpecAugmentConfig()
    assert (config.probability, config.time_warp, config.num_feature_masks, config.num_time_masks) == (0.9, 80, 2, 10)
    assert (config.feature_mask_width, config.time_mask_width, config.max_time_fraction) == (27, 100, 0.15)
    clips, length = 4000, 170
    monkeypatch.setattr(module, "time_warp", lambda mel_TF, *_: mel_TF + 1.0)
    monkeypatch.setattr(module, "span_mask", lambda size, *_: jnp.arange(size) == 0)
    mel_BTF = jnp.arange(2.0) * jnp.ones((clips, length, 1))
    augmented = jax.jit(lambda mel, key: spec_augment(mel, jnp.full(clips, length), key, config))
    shown = np.asarray(augmented(mel_BTF, jax.random.key(0))[:, -1])  # [0, 1], one higher when warped, 0 masked by 0.5
    warped, masked = shown[:, 1] == 2.0, shown[:, 0] % 1 == 0.5
    shares = [warped.mean(), masked.mean(), (warped & masked).mean()]
    np.testing.assert_allclose(shares, [0.9, 0.9, 0.81], atol=4 * 0.3 / clips**0.5)
