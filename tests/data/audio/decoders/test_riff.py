"""Sizes of samples that are wrong by a little or a lot, in every container whose header is checked."""

import struct

import numpy as np
import pytest

from alp_jax.data.audio import reader
from alp_jax.data.audio.errors import BadAudio
from tests.data.sounds import RATE, chunk, coded, form, id3, patched, pcm, tone, wav

SOUND = tone(2, 440)
DATA = pcm(SOUND)
BEGIN = np.frombuffer(DATA, "<i2")
AU, AIFF = coded(SOUND, form="AU", subtype="PCM_16"), coded(SOUND, form="AIFF", subtype="PCM_24")
AIFC = coded(SOUND, form="AIFF", subtype="PCM_16", endian="LITTLE")
LIST = chunk(b"LIST", b"INFO" + bytes(5000))


def riff(size):
    return wav(form(), chunk(b"data", DATA, size))


def rf64(size):
    ds64 = chunk(b"ds64", struct.pack("<QQQI", 0, size, 0, 0))
    return wav(ds64, form(), chunk(b"data", DATA, 0xFFFFFFFF), size=0xFFFFFFFF, name=b"RF64")


MAKERS = {  # extension -> a file that states ``size`` for the len(DATA) bytes of 16-bit samples that it has
    "wav": riff,
    "rf64": rf64,
    "au": lambda size: AU[:8] + struct.pack(">I", size) + AU[12:],
    "aiff": lambda size: patched(AIFF, b"SSND", struct.pack(">I", 8 + size + len(DATA) // 2)),
    "aifc": lambda size: patched(AIFC, b"SSND", struct.pack(">I", 8 + size)),
}


def read(path, data, start_s=0.0):
    path.write_bytes(data)
    return reader.read(str(path), start_s, None, reader.Limits())


@pytest.mark.parametrize("size", [len(DATA) * 3 // 5, len(DATA) - 8192, len(DATA) + 44])
@pytest.mark.parametrize("name", MAKERS)
def test_a_wrong_size_costs_no_sample_and_is_noted(tmp_path, name, size):
    sound = read(tmp_path / f"a.{name}", MAKERS[name](size))
    assert sound.notes == ("wrong_header",)
    assert len(sound.samples) == len(BEGIN)
    assert np.abs(sound.samples - BEGIN.astype(int)).max() <= 1
    part = read(tmp_path / f"a.{name}", MAKERS[name](size), 1.5)
    np.testing.assert_array_equal(part.samples, sound.samples[-RATE // 2 :])


@pytest.mark.parametrize(
    ("name", "data"),
    [
        *((name, make(len(DATA))) for name, make in MAKERS.items()),
        ("wav", riff(len(DATA)) + id3(9000)),
        ("wav", riff(len(DATA)) + bytes(5001) + LIST),
        ("wav", riff(len(DATA)) + b"made by a recorder" * 200),
        ("wav", wav(form(), chunk(b"data", DATA), LIST)),
        ("rf64", rf64(len(DATA)) + LIST),
        ("aiff", AIFF + b"MIDI\0\0\x20\0" + bytes(0x2000)),
    ],
)
def test_what_follows_the_samples_is_not_taken_for_them(tmp_path, name, data):
    sound = read(tmp_path / f"a.{name}", data)
    assert (len(sound.samples), sound.notes) == (len(BEGIN), ())


@pytest.mark.parametrize("name", MAKERS)
def test_a_file_that_was_cut_is_refused(tmp_path, name):
    with pytest.raises(BadAudio, match=r"corrupt: .* bytes"):
        read(tmp_path / f"a.{name}", MAKERS[name](len(DATA))[:-300])
