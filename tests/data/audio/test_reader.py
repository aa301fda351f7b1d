"""The reader on files whose headers lie, on every format people download, and on what is refused."""

import io
import os

import numpy as np
import pytest
import soundfile
import soxr

from alp_jax.data.audio import errors, reader
from alp_jax.data.audio.decoders import ffmpeg, sndfile
from alp_jax.data.audio.errors import BadAudio
from alp_jax.data.audio.pool import Failure, decode_files
from alp_jax.data.audio.reader import Limits, Stretch
from tests.data import sounds
from tests.data.sounds import RATE, chunk, coded, form, id3, mpeg_packets, muxed, patched, pcm, tone, two_tones, wav

LIMITS = Limits()
TWO, TWO_44 = two_tones(), two_tones(44_100)
VBR = sounds.vbr_mp3(TWO_44)
PIPED = b"".join(mpeg_packets(VBR))
CBR = coded(TWO_44, 44_100, "MP3", "MPEG_LAYER_III", bitrate_mode="CONSTANT", compression_level=0.5)
CBR_PIPED = b"".join(mpeg_packets(CBR))
FLAC = coded(TWO, form="FLAC")
TWO_STREAMS = muxed(two_tones(48_000), "webm", "libopus", 48_000, streams=2)
FIRST, SECOND = tone(3, 440), tone(3, 1000)
DATA = pcm(TWO)
AU, CAF = coded(TWO, form="AU", subtype="PCM_16"), coded(TWO, form="CAF", subtype="PCM_16")
LIST = chunk(b"LIST", b"INFOISFT\x05\0\0\0abcd\0\0")
UNFILLED = chunk(b"ds64", bytes(28))
TABLE_FIRST = muxed(TWO, "mp4", "aac", options={"moov_size": "20000"})
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
M4A = muxed(TWO, "ipod", "aac")
RATES = {440: tone(3, 440), 1000: tone(3, 1000, 44_100)}

LIES = {  # file -> how many seconds it may differ from 6
    "vbr_piped.mp3": (PIPED, 0.05),
    "vbr_picture.mp3": (id3(1 << 20) + PIPED, 0.05),
    "vbr_two_tags.mp3": (id3() + id3(1000) + PIPED, 0.05),
    "vbr_junk.mp3": (np.random.default_rng(0).bytes(3000) + PIPED, 0.05),
    "cbr_piped.mp3": (CBR_PIPED, 0.05),
    "cbr_picture.mp3": (id3(1 << 20) + CBR_PIPED, 0.05),
    "cbr_two_tags.mp3": (id3() + id3(1000) + CBR_PIPED, 0.05),
    "cbr_zeros.mp3": (bytes(1 << 20) + CBR_PIPED, 0.05),
    "cbr_text_before.mp3": (b"HTTP/1.0 200 OK\r\n\r\n" + CBR_PIPED, 0.05),
    "xing_picture.mp3": (id3(1 << 20) + VBR, 0.001),
    "xing_too_few.mp3": (sounds.with_xing_frames(VBR, 0.3), 0.001),
    "xing_too_many.mp3": (sounds.with_xing_frames(VBR, 3), 0.001),
    "last_frame_cut.mp3": (PIPED[:-60], 0.05),
    "no_total.flac": (sounds.with_flac_samples(FLAC, 0), 0),
    "small_total.flac": (sounds.with_flac_samples(FLAC, RATE), 0),
    "large_total.flac": (sounds.with_flac_samples(FLAC, 10 * RATE), 0),
    "largest_total.flac": (sounds.with_flac_samples(FLAC, 2**36 - 1), 0),
    "tagged.flac": (id3(1000) + FLAC, 0),
    "chained.ogg": (coded(FIRST, form="OGG") + coded(SECOND, form="OGG"), 0),
    "chained_rates.ogg": (coded(FIRST, form="OGG") + coded(RATES[1000], 44_100, "OGG"), 0),
    "chained_channels.ogg": (coded(FIRST, form="OGG") + coded(np.stack([SECOND] * 2, 1), form="OGG"), 0),
    "chained.opus": (b"".join(coded(tone(3, hz, 48_000), 48_000, "OGG", "OPUS") for hz in (440, 1000)), 0),
    "unfinished.wav": (wav(form(), chunk(b"data", DATA, 0), size=0), 0),
    "data_of_0.wav": (wav(form(), chunk(b"data", DATA, 0)), 0),
    "data_too_small.wav": (wav(form(), chunk(b"data", DATA, 2 * RATE), size=2 * RATE + 36), 0),
    "streamed.wav": (wav(form(), chunk(b"data", DATA, 0xFFFFFFFF), size=0xFFFFFFFF), 0),
    "two_data.wav": (wav(form(), chunk(b"data", DATA[: 6 * RATE]), chunk(b"data", DATA[6 * RATE :])), 0),
    "list_between.wav": (wav(form(), chunk(b"data", DATA[: 6 * RATE]), LIST, chunk(b"data", DATA[6 * RATE :])), 0),
    "second_unfinished.wav": (wav(form(), chunk(b"data", DATA[: 6 * RATE]), chunk(b"data", DATA[6 * RATE :], 0)), 0),
    "two_files.wav": (coded(FIRST) + coded(SECOND), 0),
    "odd_chunks.wav": (wav(LIST, form(), chunk(b"junk", b"abc"), chunk(b"data", DATA), chunk(b"id3 ", bytes(33))), 0),
    "zeros_behind.wav": (wav(form(), chunk(b"data", DATA)) + bytes(5000), 0),
    "unfinished.rf64": (wav(UNFILLED, form(), chunk(b"data", DATA, 0xFFFFFFFF), size=0xFFFFFFFF, name=b"RF64"), 0),
    "size_0.au": (AU[:8] + bytes(4) + AU[12:], 0),
    "too_small.au": (AU[:8] + b"\0\0\x10\0" + AU[12:], 0),
    "unknown_size.caf": (patched(CAF, b"data", b"\xff" * 8), 0),
    "size_0.caf": (patched(CAF, b"data", bytes(8)), 0),
    "size_0.aiff": (patched(coded(TWO, form="AIFF"), b"SSND", bytes(4)), 0),
}
FORMATS = {
    "a.m4a": (M4A, 0.001),
    "title_not_utf8.m4a": (muxed(TWO, "ipod", "aac", title="Caf" + 9 * "?").replace(9 * b"?", 9 * b"\xe9"), 0.001),
    "apple_lossless.m4a": (muxed(TWO, "ipod", "alac"), 0),
    "fragments.mp4": (
        muxed(TWO, "mp4", "aac", options=FRAGMENTS),
        0.1,
    ),
    "a.webm": (muxed(two_tones(48_000), "webm", "libopus", 48_000), 0.01),
    "two_streams.webm": (TWO_STREAMS, 0.01),
    "live.webm": (muxed(two_tones(48_000), "webm", "libopus", 48_000, {"live": "1"}), 0.01),
    "a.mka": (muxed(TWO, "matroska", "flac"), 0),
    "a.aac": (muxed(TWO, "adts", "aac"), 0.1),
    "a.3gp": (muxed(TWO, "3gp", "aac"), 0.001),
    "a.mp2": (muxed(TWO, "mp2", "mp2"), 0.1),
    "flac_inside.ogg": (muxed(TWO, "ogg", "flac"), 0),
    "really_m4a.mp3": (M4A, 0.001),
    "a.w64": (coded(TWO, form="W64", subtype="PCM_16"), 0),
    "a.caf": (CAF, 0),
    "alac.caf": (coded(TWO, form="CAF", subtype="ALAC_16"), 0),
    "a.aifc": (coded(TWO, form="AIFF", subtype="FLOAT"), 0),
    "a.sph": (coded(TWO, form="NIST", subtype="PCM_16"), 0),
    "law.sph": (coded(TWO, form="NIST", subtype="ULAW"), 0),
    "extensible.wav": (coded(TWO, form="WAVEX", subtype="PCM_24"), 0),
}


def power(sound, hz):
    """Of the part at ``hz``, in [0, 1]."""
    turns = np.exp(-2j * np.pi * hz * np.arange(len(sound)) / RATE)
    return 2 * abs(np.dot(sound, turns)) ** 2 / (len(sound) * (np.dot(sound, sound) + 1e-9))


def change(sound):
    """Seconds at which 440 Hz turn into 1000 Hz."""
    width = 320
    pieces = sound[: len(sound) // width * width].astype(np.float64).reshape(-1, width)
    high = [power(piece, 1000) > power(piece, 440) for piece in pieces[5:-5]]
    assert high == sorted(high), "440 Hz and 1000 Hz take turns"
    return (5 + high.index(True)) * width / RATE


@pytest.mark.parametrize("name", [*LIES, *FORMATS])
def test_all_samples_are_read_and_cuts_land_where_they_are(tmp_path, name):
    data, tolerance_s = (LIES | FORMATS)[name]
    name = name.replace(".rf64", ".wav")
    (tmp_path / name).write_bytes(data)
    whole = reader.load(str(tmp_path / name), 0.0, None, LIMITS)
    assert len(whole) / RATE == pytest.approx(6.0, abs=tolerance_s + 1e-4)
    assert change(whole) == pytest.approx(3.0, abs=tolerance_s + 0.02)
    assert np.abs(whole[RATE : 2 * RATE]).max() == pytest.approx(0.3 * 32768, rel=0.15)
    around = reader.load(str(tmp_path / name), 2.5, 1.0, LIMITS)
    assert len(around) == RATE
    assert change(around) == pytest.approx(0.5, abs=tolerance_s + 0.02)
    after = reader.load(str(tmp_path / name), 5.0, None, LIMITS)
    assert len(after) == pytest.approx(len(whole) - 5 * RATE, abs=2)
    assert power(after[800:-800].astype(np.float64), 1000) > 0.98
    over = reader.load(str(tmp_path / name), 5.5, 9.0, LIMITS)
    assert len(over) == pytest.approx(len(whole) - 5.5 * RATE, abs=2)
    with pytest.raises(BadAudio, match="zero_length"):
        reader.load(str(tmp_path / name), 7.0, 1.0, LIMITS)
    with pytest.raises(BadAudio, match="too_long"):
        reader.load(str(tmp_path / name), 0.0, None, Limits(max_seconds=5.0))
    np.testing.assert_array_equal(reader.read(str(tmp_path / name), 0.0, None, LIMITS).samples, whole)


def test_a_header_that_lies_is_noted_and_one_that_says_nothing_is_not(tmp_path):
    noted = set()
    for name, (data, _) in (LIES | FORMATS).items():
        path = tmp_path / name.replace(".rf64", ".wav")
        path.write_bytes(data)
        if reader.read(str(path), 0.0, None, LIMITS).notes:
            noted.add(name)
    assert noted == {
        *("xing_too_few.mp3", "xing_too_many.mp3", "small_total.flac", "large_total.flac", "largest_total.flac"),
        *("unfinished.wav", "data_of_0.wav", "data_too_small.wav", "two_data.wav", "list_between.wav"),
        *("second_unfinished.wav", "two_files.wav", "unfinished.rf64", "size_0.au", "too_small.au"),
    }


def test_an_edit_list_chooses_a_part(tmp_path):
    path = tmp_path / "trimmed.m4a"
    path.write_bytes(sounds.trimmed(M4A, 2 * RATE, 2500))
    sound = reader.load(str(path), 0.0, None, LIMITS)
    assert len(sound) == pytest.approx(2.5 * RATE, abs=1)
    assert change(sound) == pytest.approx(1.0, abs=0.1)
    path.write_bytes(sounds.trimmed(TABLE_FIRST, 2 * RATE, 2500)[:-30_000])
    with pytest.raises(BadAudio, match="corrupt: cut short"):
        reader.load(str(path), 0.0, None, LIMITS)


def test_blocks_of_an_mp3_file_join_without_a_glitch(tmp_path):
    """Block after block from libsndfile there was one every 65536 samples, as loud as the sound."""
    for name, data in (("vbr.mp3", VBR), ("cbr.mp3", CBR)):
        (tmp_path / name).write_bytes(data)
        got = np.concatenate([block.samples for block in ffmpeg.blocks(data, Stretch(0.0, None))])[:, 0]
        at_once = soundfile.read(io.BytesIO(data), dtype="float32")[0]
        assert len(got) == len(at_once)
        assert np.abs(got - at_once).max() < 1e-4
        stored = reader.load(str(tmp_path / name), 0.0, None, LIMITS)
        wanted = soxr.resample(at_once, 44_100, RATE, quality="HQ") * 32768
        assert np.abs(stored - wanted).max() < 4


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.flac", FLAC),
        ("b.flac", coded(TWO, form="FLAC", subtype="PCM_24")),
        ("a.ogg", coded(TWO, form="OGG")),
        ("a.opus", coded(two_tones(48_000), 48_000, "OGG", "OPUS")),
        ("a.caf", CAF),
    ],
)
def test_both_decoders_give_the_same_samples(name, data):
    with sndfile.open_file(data) as file:
        first = np.concatenate([block.samples for block in sndfile.blocks(file, Stretch(0.0, None))])
    second = np.concatenate([block.samples for block in ffmpeg.blocks(data, Stretch(0.0, None))])
    assert first.shape == second.shape
    assert np.abs(first - second).max() <= (0 if name.endswith((".flac", ".caf")) else 5e-4)


@pytest.mark.parametrize("name", ["vbr.mp3", "a.m4a", "lossless.m4a", "a.webm", "a.aac", "a.mka"])
def test_a_cut_is_the_part_of_the_whole(tmp_path, name, monkeypatch):
    """A rising tone, whose place cannot be mistaken. What lies long before the cut is not decoded."""
    at = np.arange(4 * 48_000) / 48_000
    rising = (0.3 * np.sin(2 * np.pi * (300 * at + 350 * at**2))).astype(np.float32)
    made = {
        "vbr.mp3": lambda: sounds.vbr_mp3(rising, 48_000),
        "a.m4a": lambda: muxed(rising, "ipod", "aac", 48_000),
        "lossless.m4a": lambda: muxed(rising, "ipod", "alac", 48_000),
        "a.webm": lambda: muxed(rising, "webm", "libopus", 48_000),
        "a.aac": lambda: muxed(rising, "adts", "aac", 48_000),
        "a.mka": lambda: muxed(rising, "matroska", "aac", 48_000),
    }
    (tmp_path / name).write_bytes(made[name]())
    whole = reader.load(str(tmp_path / name), 0.0, None, LIMITS).astype(np.float64)
    decoded = []
    one = ffmpeg._samples
    monkeypatch.setattr(ffmpeg, "_samples", lambda frame: decoded.append(frame.samples) or one(frame))
    cut = reader.load(str(tmp_path / name), 3.0, 0.5, LIMITS).astype(np.float64)
    same = whole[3 * RATE : 3 * RATE + RATE // 2]
    assert np.dot(cut, same) / np.sqrt(np.dot(cut, cut) * np.dot(same, same)) > 0.99
    if name in ("vbr.mp3", "lossless.m4a"):
        assert np.abs(cut - same)[100:-100].max() <= 1
    assert (sum(decoded) / 48_000 < 3.0) == (name != "a.mka")  # whose packets state whole milliseconds


CUT = {
    "cut.m4a": M4A[:-3000],  # FFmpeg writes the table of the samples at the end
    "table_first.m4a": TABLE_FIRST[:-8000],
    "cut.mp4": FORMATS["fragments.mp4"][0][:-8000],
    "cut.webm": FORMATS["a.webm"][0][:-20_000],
    "cut_streams.webm": TWO_STREAMS[: len(TWO_STREAMS) // 2],
    "cut_total_too_small.flac": sounds.with_flac_samples(FLAC, 5 * RATE)[: len(FLAC) // 2],
    "second_cut.wav": wav(form(), chunk(b"data", DATA[:20_000]), chunk(b"data", DATA[20_000:], 400_000)),
    "two_rates.wav": coded(FIRST) + coded(SECOND, 8_000),
    "chain_cut.ogg": (coded(FIRST, form="OGG") + coded(SECOND, form="OGG"))[:-400],
    "half.mp3": VBR[: len(VBR) // 2],
}
REFUSED = {
    "page.mp3": (b"\n<!DOCTYPE html><html><body>404</body></html>", "not_audio: an HTML page"),
    "page.g722": (b"<html><head></head></html>" * 9, "not_audio: an HTML page"),
    "error.wav": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "not_audio: an XML document"),
    "pointer.flac": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "not_audio: a Git LFS pointer"),
    "error.m4a": (b'{"error": "gone"}', "not_audio: JSON"),
    "some.wav": (b"video unavailable\n", "not_audio: text"),
    "archive.wav": (b"PK\x03\x04" + bytes(100), "not_audio: a ZIP archive"),
    "random.mp3": (np.random.default_rng(1).bytes(20_000), "not_audio|corrupt"),
    "zeros.m4a": (bytes(5000), "not_audio"),
    "picture_only.mp3": (id3(10_000), "not_audio|corrupt"),
    "adpcm.wav": (coded(TWO, subtype="IMA_ADPCM"), "unsupported: WAV IMA_ADPCM; convert it"),
    "a.wma": (b"\x30\x26\xb2\x75" + bytes(100), "unsupported: extension '.wma'; convert it: ffmpeg"),
    "really_ac3.m4a": (muxed(TWO, "ac3", "ac3", 48_000), "unsupported: a container outside"),
    "ac3_inside.mp4": (muxed(TWO, "mp4", "ac3", 48_000), "unsupported: mov.* ac3; convert it"),
    "empty_data.wav": (wav(form(), chunk(b"data", b""), LIST), "zero_length"),
    "one_sample.wav": (coded(tone(1)[:1]), "too_short"),
    "rate_0.wav": (wav(form(rate=0), chunk(b"data", DATA)), "bad_rate"),
    "many_channels.wav": (coded(np.zeros((5000, 17), np.float32)), "unsupported: 17 channels"),
    **{name: (data, "corrupt") for name, data in CUT.items()},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why(tmp_path, name):
    data, why = REFUSED[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadAudio, match=why) as caught:
        reader.load(str(tmp_path / name), 0.0, None, LIMITS)
    assert caught.value.reason in errors.REASONS


def test_a_file_that_is_there_is_never_missing(tmp_path):
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / "dangling.wav").symlink_to(tmp_path / "nothing.wav")
    (tmp_path / "empty.wav").touch()
    (tmp_path / "two\nlines.wav").write_bytes(coded(TWO))
    found = {}
    for name in ("folder", "pipe", "loop", "dangling", "empty", "none", "none/deeper", "n" * 300):
        with pytest.raises(BadAudio) as caught:
            reader.load(str(tmp_path / f"{name}.wav"), 0.0, None, LIMITS)
        found[name[:12]] = str(caught.value)
    assert found == {
        "folder": "not_a_file: a folder",
        "pipe": "not_a_file: neither a file nor a folder",
        "loop": "unreadable: Too many levels of symbolic links",
        "dangling": "missing: No such file or directory",
        "empty": "empty",
        "none": "missing: No such file or directory",
        "none/deeper": "missing: No such file or directory",
        "n" * 12: "unreadable: File name too long",
    }
    assert len(reader.load(str(tmp_path / "two\nlines.wav"), 0.0, None, LIMITS)) == 6 * RATE


def test_samples_over_all_channels_are_limited(tmp_path, monkeypatch):
    monkeypatch.setattr("alp_jax.data.audio.decoders.mix.MAX_SAMPLES", 100_000)
    monkeypatch.setattr("alp_jax.data.audio.reader.MAX_SAMPLES", 100_000)
    wide = np.stack([tone(1.0, rate=48_000)] * 4, 1)
    for name, data in {
        "known.flac": coded(wide, 48_000, "FLAC"),
        "unknown.flac": sounds.with_flac_samples(coded(wide, 48_000, "FLAC"), 0),
        "a.m4a": muxed(tone(3.0, rate=48_000), "ipod", "aac", 48_000),
        "a.ogg": coded(wide, 48_000, "OGG"),
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BadAudio, match="too_many_samples"):
            reader.load(str(tmp_path / name), 0.0, None, LIMITS)
        assert len(reader.load(str(tmp_path / name), 0.4, 0.5, LIMITS)) == RATE // 2


def test_a_bomb_takes_little_memory_and_has_a_reason(tmp_path):
    """Silence packs into nothing: 15 s of 8 channels at 384 kHz are 184 MB of samples, in 160 kB."""
    wide = np.zeros((384_000, 8), np.int16)
    wide[::1000] = 9000
    packed = coded(np.tile(wide, (15, 1)), 384_000, "FLAC", "PCM_16")
    (tmp_path / "wide.flac").write_bytes(packed)
    (tmp_path / "unknown.flac").write_bytes(sounds.with_flac_samples(packed, 0))
    paths = [str(tmp_path / name) for name in ("wide.flac", "unknown.flac")]
    for found in decode_files(paths, LIMITS, workers=1, memory_bytes=96 << 20):
        assert len(found) == 15 * RATE
    short = Limits(max_seconds=2.0)
    assert [found.reason for found in decode_files(paths, short, workers=1, memory_bytes=96 << 20)] == ["too_long"] * 2


def test_children_read_what_ffmpeg_has_to_decode(tmp_path):
    (tmp_path / "a.m4a").write_bytes(M4A)
    (tmp_path / "cut.m4a").write_bytes(CUT["cut.m4a"])
    good, bad = decode_files([str(tmp_path / name) for name in ("a.m4a", "cut.m4a")], LIMITS, workers=1)
    assert len(good) == 6 * RATE
    assert isinstance(bad, Failure)
    assert bad.reason == "corrupt"
