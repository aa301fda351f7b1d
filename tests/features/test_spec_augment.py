"""SpecAugment's pieces against the reference, and its independence of the batch."""

import pathlib

import jax
import numpy as np
import pytest

from alp_jax.config.schema import SpecAugmentConfig
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
