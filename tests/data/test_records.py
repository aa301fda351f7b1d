"""Sounds in records: what is decoded is what was encoded, any stretch of it, and nothing else passes for it."""

import io

import numpy as np
import pytest
import soundfile

from alp_jax.data.store import records
from alp_jax.data.store.records import Crop


@pytest.mark.parametrize("codec", records.CODECS)
def test_any_stretch_is_decoded_into_its_place(sound, codec):
    whole = sound(1, 2.5)
    data = records.encode_audio(whole, codec)
    np.testing.assert_array_equal(records.decode_audio(data, codec, len(whole)), whole)
    if codec == "flac":
        np.testing.assert_array_equal(soundfile.read(io.BytesIO(data), dtype="int16")[0], whole)
    rows = np.full((20, 9000), 7, np.int16)
    for at, row in zip(np.linspace(0, 0.999, len(rows)), rows, strict=True):
        crop = Crop(at, 8000, row)
        first = crop.first(len(whole))
        found = records.decode_audio(data, codec, len(whole), crop)
        np.testing.assert_array_equal(row[:8000], whole[first : first + 8000])
        assert np.shares_memory(found, row)
        assert (row[8000:] == 7).all()
    long = np.full(len(whole) + 5, 7, np.int16)
    assert len(records.decode_audio(data, codec, len(whole), Crop(0.5, len(long), long))) == len(whole)
    assert (long[-5:] == 7).all()


def flac(samples, channels=1):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.repeat(samples[:, None], channels, 1), 16_000, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def test_a_stream_that_is_not_what_the_record_states_is_refused(sound):
    whole = sound(2, 1.0)
    good = flac(whole)
    cut, late = good[: len(good) // 2], Crop(0.9, 4000)
    damaged = bytearray(good)
    damaged[len(good) // 2] ^= 1
    with pytest.raises(ValueError, match="not FLAC"):
        records.decode_audio(b"RIFF" + good, "flac", len(whole))
    for data, num_samples, crop in (
        (good, len(whole) + 1, None),
        (good, len(whole) - 1, None),
        (flac(whole, channels=2), len(whole), None),  # would not fit
        (flac(whole, channels=2), 2 * len(whole), None),
        (cut, len(whole), None),
        (cut, len(whole), late),
        (bytes(damaged), len(whole), None),
        (b"", len(whole), None),
    ):
        with pytest.raises(ValueError, match=r"states|not FLAC|2 channels"):
            records.decode_audio(data, "flac", num_samples, crop)
    for data in (whole.tobytes()[:-2], whole.tobytes()[:-1], whole.tobytes() * 2):
        with pytest.raises(ValueError):
            records.decode_audio(data, "pcm", len(whole))
