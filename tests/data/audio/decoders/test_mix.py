"""Down-mix, scale, silence: what a clip becomes of the samples a decoder gives."""

import numpy as np
import pytest

from alp_jax.data.audio import reader
from alp_jax.data.audio.decoders.contract import Block
from alp_jax.data.audio.decoders.mix import Mix
from alp_jax.data.audio.errors import BadAudio
from alp_jax.data.audio.reader import Limits
from tests.data.sounds import RATE, coded, tone

LIMITS = Limits()
SOUND = tone(1.5, peak=0.4)
NOISE = 0.1 * np.random.default_rng(0).standard_normal((24_000, 6)).astype(np.float32)


def read(tmp_path, sound, channel=None, **options):
    (tmp_path / "a.wav").write_bytes(coded(sound, **options))
    return reader.read(str(tmp_path / "a.wav"), 0.0, None, LIMITS, channel=channel)


def of(samples):
    return np.rint(samples.astype(np.float64) * 32768).astype(int)


@pytest.mark.parametrize(
    ("channels", "wanted"),
    [
        ([SOUND, -SOUND], SOUND),
        ([0.8 * SOUND, -SOUND], -SOUND),
        ([0.9 * SOUND + 0.2, -SOUND - 0.2], -SOUND - 0.2),
        ([SOUND + 0.3, -SOUND + 0.3], SOUND + 0.3),  # their mean is a constant
        ([SOUND, -SOUND, 0 * SOUND, 0 * SOUND], SOUND),
    ],
)
def test_channels_that_cancel_give_the_loudest(tmp_path, channels, wanted):
    sound = read(tmp_path, np.stack(channels, 1), subtype="FLOAT")
    assert sound.notes == ("channels_cancel",)
    assert np.abs(sound.samples - of(wanted)).max() <= 1
    one = read(tmp_path, np.stack(channels, 1), channel=1, subtype="FLOAT")
    assert one.notes == ()
    assert np.abs(one.samples - of(channels[1])).max() <= 1


@pytest.mark.parametrize(
    "channels",
    [
        [SOUND, SOUND],
        [SOUND, 0 * SOUND],  # half the sound, as before
        [NOISE[:, 0], NOISE[:, 1]],
        [SOUND, -0.3 * SOUND],
        [NOISE[:, 0] + 0.5 * NOISE[:, 2], NOISE[:, 1] - 0.5 * NOISE[:, 2]],  # wide stereo
        [0 * SOUND, 0 * SOUND, SOUND, 0 * SOUND, 0 * SOUND, 0 * SOUND],  # the centre of 5.1
        list(NOISE.T),
    ],
)
def test_other_channels_give_their_mean(tmp_path, channels):
    sound = read(tmp_path, np.stack(channels, 1), subtype="FLOAT")
    assert sound.notes == ()
    assert np.abs(sound.samples - of(np.mean(channels, 0))).max() <= 1


@pytest.mark.parametrize("scale", [2.0**15, 2.0**23, 2.0**31])
def test_integers_stored_as_floats_are_divided_by_their_scale(tmp_path, scale):
    for subtype, sound in (("FLOAT", SOUND), ("DOUBLE", np.stack([SOUND, 0.5 * SOUND], 1))):
        (tmp_path / "a.wav").write_bytes(coded((sound * np.float32(scale)).round(), subtype=subtype))
        found = reader.read(str(tmp_path / "a.wav"), 0.0, None, LIMITS)
        assert found.notes == ("rescaled",)
        assert np.abs(found.samples - of(sound if sound.ndim == 1 else sound.mean(1))).max() <= 2


def test_quiet_integers_and_wild_masters_keep_their_shape(tmp_path):
    for peak in (3.0, 20.0, 60.0):
        found = read(tmp_path, SOUND / 0.4 * peak, subtype="FLOAT")
        assert found.notes == ("rescaled",)
        assert np.abs(found.samples - of(SOUND / 0.4)).max() <= 1
    quiet = read(tmp_path, np.rint(SOUND * 300), subtype="FLOAT")
    assert quiet.notes == ("rescaled",)
    assert np.abs(quiet.samples).max() == 120


def test_hot_masters_are_clipped_as_ever(tmp_path):
    drums = 0.2 * np.random.default_rng(1).standard_normal(RATE).astype(np.float32)
    drums[::500] = 1.8
    for hot in (SOUND * 3.0, drums):  # 0.4 x 3 is a peak of 1.2
        found = read(tmp_path, hot, subtype="FLOAT")
        assert found.notes == ()
        np.testing.assert_array_equal(found.samples, np.clip(np.rint(hot * np.float32(32768)), -32768, 32767))
    with pytest.raises(BadAudio, match=r"bad_scale: a peak of 1e\+20"):
        read(tmp_path, SOUND / 0.4 * 1e20, subtype="FLOAT")


def test_a_constant_is_silence_and_a_sound_on_a_constant_is_not(tmp_path):
    for constant in (0.0, 0.25, -0.9):
        for shape in ((RATE,), (RATE, 2)):
            with pytest.raises(BadAudio, match="silent"):
                read(tmp_path, np.full(shape, constant, np.float32))
    with pytest.raises(BadAudio, match="silent"):
        read(tmp_path, np.stack([np.full(RATE, 0.5), np.full(RATE, -0.5)], 1).astype(np.float32))
    assert np.abs(read(tmp_path, 0.25 + 0.01 * SOUND).samples - of(0.25 + 0.01 * SOUND)).max() <= 1


def test_the_smallest_files(tmp_path):
    for samples, reason in ((0, "zero_length"), (1, "too_short"), (1599, "too_short")):
        with pytest.raises(BadAudio, match=reason):
            read(tmp_path, SOUND[:samples])
    assert len(read(tmp_path, SOUND[:1600]).samples) == 1600


def test_segments_of_other_rates_and_channels_are_put_one_after_another():
    mix = Mix(LIMITS)
    mix.add(Block(48_000, tone(1.0, 440, 48_000)[:, None]))
    mix.add(Block(8_000, np.stack([tone(0.5, 440, 8_000)] * 2, 1)))
    assert len(mix.finish()) == RATE + RATE // 2
    with pytest.raises(BadAudio, match="no_channel: channel 1 of 1"):
        Mix(LIMITS, channel=1).add(Block(RATE, SOUND[:, None]))
    with pytest.raises(BadAudio, match="non_finite"):
        Mix(LIMITS).add(Block(RATE, np.array([[np.inf], [-np.inf]], np.float32)))
