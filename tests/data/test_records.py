"""Sounds in records: what is decoded is what was encoded, any stretch of it, and nothing else passes for it."""

import dataclasses
import io

import numpy as np
import pytest
import soundfile
from tensorflow_datasets.proto import tf_example_generated_pb2

from alp_jax.core.clip import Clip, Event
from alp_jax.core.errors import DataError
from alp_jax.data.store import records, writing
from alp_jax.data.store.records import Crop


@pytest.mark.parametrize("codec", records.CODECS)
def test_any_stretch_is_decoded_into_its_place(sound, codec):
    whole = sound(1, 2.5)
    data = writing.encode_audio(whole, codec)
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


def number(value):
    """A varint of a protocol buffer."""
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + number(value >> 7)


def field(tag, *content):
    joined = b"".join(content)
    return tag + number(len(joined)) + joined


@pytest.mark.parametrize("codec", records.CODECS)
def test_records_that_others_wrote_in_another_order_are_the_same(sound, codec):
    whole = sound(3, 1.0)
    clip = Clip("a:1", "a", "r:1", "x.wav", captions=("one", "two"), tags=("t",), labels={"k": "v"})
    clip = dataclasses.replace(clip, events=(Event(0.0, 0.5, "dog"),))
    data = writing.encode(clip, whole, codec)
    example = tf_example_generated_pb2.Example.FromString(data)
    entries = {}
    for name, feature in example.features.feature.items():
        entries[name] = field(b"\n", field(b"\n", name.encode()), field(b"\x12", feature.SerializeToString()))
    last = field(b"\n", *(entries[name] for name in sorted(entries, reverse=True)))
    twice = field(b"\n", *(entries[name] for name in sorted(entries)), entries["audio"])
    example.features.feature["audio"].bytes_list.value.append(b"and more")
    more = example.SerializeToString(deterministic=True)
    first, *others = sorted(entries)
    halves = field(b"\n", entries[first]) + field(b"\n", *(entries[name] for name in others))
    wanted = records.decode(data, "")
    np.testing.assert_array_equal(wanted.audio, whole)
    assert (wanted.id, wanted.captions, wanted.tags, wanted.labels) == ("a:1", ("one", "two"), ("t",), {"k": "v"})
    assert (wanted.num_samples, wanted.events) == (len(whole), clip.events)
    for same in (data, last, twice, more, halves, data + b"\x12\x00"):
        found = records.decode(same, "")
        np.testing.assert_array_equal(found.audio, whole)
        assert dataclasses.replace(found, audio=None) == dataclasses.replace(wanted, audio=None)
    assert records.audio_entry(data[: records.HEAD], len(data))
    assert not records.audio_entry(last[:64], len(last))
    for cut in range(0, len(data), 101):
        with pytest.raises(DataError, match="here: not a record"):
            records.decode(data[:cut], "here")
