"""Building data sets from good and damaged files, and opening what was built."""

import copy
import dataclasses
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from alp_jax.core import files, storage
from alp_jax.core.clip import Clip, Event
from alp_jax.core.errors import DataError, UserError
from alp_jax.data.audio import reader
from alp_jax.data.audio.errors import BadAudio
from alp_jax.data.building.build import build
from alp_jax.data.store.dataset import open_dataset

RATE = 16_000


def tone(seconds, rate=RATE, hz=300.0):
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def make_clips(folder, n=12, first=0):
    folder.mkdir(exist_ok=True)
    clips = []
    for i in range(first, first + n):
        path = folder / f"{i}.wav"
        soundfile.write(path, tone(0.3 + 0.05 * (i % 5), hz=200 + 20 * i), RATE, subtype="PCM_16")
        clips.append(
            Clip(
                id=f"src{i % 2}:{i}",
                source=f"src{i % 2}",
                recording=f"rec:{i // 2}",
                audio_path=str(path),
                captions=(f"a tone number {i}", "a tone")[: 1 + i % 2],
                tags=("tone",),
                labels={"pitch": "low" if i < 6 else "high"},
                events=(Event(0.1, 0.2, "beep"),),
                split="test" if i % 6 == 5 else "train",
                group=f"g{i // 2}",
                license="CC0",
            )
        )
    return clips


def contents(folder):
    return {p.name: p.read_bytes() for p in sorted(pathlib.Path(folder).iterdir())}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("built")
    clips = make_clips(root / "wav")
    build(clips, root / "set", source_name="tones", shards=3, workers=2)
    return root, clips


def test_records_come_back_as_they_went_in(built):
    root, clips = built
    dataset = open_dataset(root / "set")
    by_id = {clip.id: clip for clip in clips}
    assert sorted(dataset.id.to_pylist()) == sorted(by_id)
    for row in range(len(dataset)):
        record, clip = dataset.read(row), by_id[dataset.id[row].as_py()]
        sound, _ = soundfile.read(clip.audio_path, dtype="int16")
        np.testing.assert_array_equal(record.audio, sound)
        assert record.audio.dtype == np.int16
        assert record.num_samples == len(sound) == dataset.num_samples[row]
        for name in ("source", "recording", "captions", "tags", "labels", "split", "group", "license"):
            assert getattr(record, name) == getattr(clip, name), name
        assert record.events[0].label == "beep"
        assert record.events[0].onset_s == pytest.approx(0.1)
        assert dataset.sources[dataset.source[row]] == clip.source
        assert dataset.read(row, audio=False).audio is None
    assert dataset.verify()["clips"] == 12
    assert {dataset.id[int(r)].as_py() for r in dataset.rows("test")} == {c.id for c in clips if c.split == "test"}
    assert copy.deepcopy(dataset).read(3).id == dataset.read(3).id
    with pytest.raises(UserError, match="split"):
        dataset.rows("tset")


def test_one_worker_pcm_and_moved_audio_follow_the_same_plan(built, tmp_path):
    root, clips = built
    moved = tmp_path / "elsewhere"
    (root / "wav").rename(moved)
    try:
        again = [dataclasses.replace(c, audio_path=str(moved / pathlib.Path(c.audio_path).name)) for c in clips]
        build(again[::-1], tmp_path / "one", source_name="tones", shards=3, workers=1)
        assert contents(tmp_path / "one") == contents(root / "set")
        build(again, tmp_path / "pcm", source_name="tones", shards=1, workers=1, codec="pcm")
    finally:
        moved.rename(root / "wav")
    flac, pcm = open_dataset(root / "set"), open_dataset(tmp_path / "pcm")
    assert flac.fingerprint != pcm.fingerprint
    sounds = [{d.id[r].as_py(): d.read(r).audio.tobytes() for r in range(12)} for d in (flac, pcm)]
    assert sounds[0] == sounds[1]


def test_a_folder_with_something_else_is_left_alone(built, tmp_path):
    root, clips = built
    before = contents(root / "set")
    assert build(clips, root / "set", source_name="tones", shards=3)["usable"] == 12  # complete: nothing to do
    with pytest.raises(UserError, match="a different build"):
        build(clips[:-1], root / "set", source_name="tones", shards=3)
    with pytest.raises(UserError, match="a different build"):
        build(clips, root / "set", source_name="tones", shards=3, codec="pcm")
    assert contents(root / "set") == before
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        build(clips, tmp_path, source_name="tones")
    for bad in ({"codec": "mp3"}, {"max_bad_share": 2.0}, {"max_seconds": 0.01}):
        with pytest.raises(UserError, match=next(iter(bad))):
            build(clips, tmp_path / "new", source_name="tones", **bad)
    with pytest.raises(UserError, match="no clips"):
        build([], tmp_path / "new", source_name="tones")
    assert not (tmp_path / "new").exists()


def nan_wav(path):
    sound = tone(0.5)
    sound[100] = np.nan
    soundfile.write(path, sound, RATE, subtype="FLOAT")


def cut(path, fmt, subtype, share):
    soundfile.write(path, tone(2.0), RATE, format=fmt, subtype=subtype)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def wav_rate(path, rate):
    soundfile.write(path, tone(0.5), RATE)
    data = bytearray(path.read_bytes())
    data[24:28] = struct.pack("<I", rate)
    path.write_bytes(data)


DAMAGE = {
    "missing.wav": ("missing", lambda p: None),
    "folder.wav": ("not_a_file", lambda p: p.mkdir()),
    "empty.wav": ("empty", lambda p: p.write_bytes(b"")),
    "html.mp3": ("not_audio", lambda p: p.write_bytes(b"<html>404 not found</html>" * 20)),
    "zeros.flac": ("not_audio", lambda p: p.write_bytes(b"\0" * 4096)),
    "notes.txt": ("unsupported", lambda p: p.write_text("hello")),
    "adpcm.wav": ("unsupported", lambda p: soundfile.write(p, tone(0.5), RATE, subtype="IMA_ADPCM")),
    "cut.wav": ("corrupt", lambda p: cut(p, "WAV", "PCM_16", 0.6)),
    "cut.flac": ("corrupt", lambda p: cut(p, "FLAC", "PCM_16", 0.6)),
    "cut.ogg": ("corrupt", lambda p: cut(p, "OGG", "VORBIS", 0.6)),
    "cut.opus": ("corrupt", lambda p: cut(p, "OGG", "OPUS", 0.6)),
    "cut.mp3": ("corrupt", lambda p: cut(p, "MP3", "MPEG_LAYER_III", 0.6)),
    "cut.aiff": ("corrupt", lambda p: cut(p, "AIFF", "PCM_16", 0.6)),
    "cut.gsm": ("corrupt", lambda p: cut(p, "RAW", "GSM610", 0.601)),
    "text.gsm": ("not_audio", lambda p: p.write_text("hello" * 100)),
    "no_samples.wav": ("zero_length", lambda p: soundfile.write(p, tone(0), RATE)),
    "nan.wav": ("non_finite", nan_wav),
    "rate0.wav": ("bad_rate", lambda p: wav_rate(p, 0)),
    "rate1.wav": ("bad_rate", lambda p: wav_rate(p, 1)),
    "rate_mega.wav": ("bad_rate", lambda p: wav_rate(p, 4_000_000)),
    "long.wav": ("too_long", lambda p: soundfile.write(p, tone(3.5), RATE)),
    "short.wav": ("too_short", lambda p: soundfile.write(p, tone(0.01), RATE)),
    "silent.wav": ("silent", lambda p: soundfile.write(p, tone(0.5) * 0, RATE)),
}


def test_every_kind_of_bad_file_is_counted_and_named(tmp_path):
    clips = make_clips(tmp_path / "wav", n=4)
    for name, (_, make) in DAMAGE.items():
        path = tmp_path / "wav" / name
        make(path)
        clips.append(Clip(id=f"bad:{name}", source="bad", recording=f"rec:{name}", audio_path=str(path)))
    beyond = dataclasses.replace(clips[0], id="bad:beyond", source="bad", start_s=99.0)
    wanted = dataclasses.replace(clips[0], id="bad:wanted", source="bad", duration_s=50.0)
    clips += [beyond, wanted, clips[0]]
    out = tmp_path / "set"
    with pytest.raises(DataError, match=r"26 of 30 clips are unusable .*max_bad_share.*accounting.json"):
        build(clips, out, source_name="x", workers=1, max_seconds=3.0)
    assert not (out / "dataset.json").exists()
    failed = files.read_json(out / "accounting.json")
    with pytest.raises(DataError, match="half built"):
        open_dataset(out)
    accounting = build(clips, out, source_name="x", workers=1, max_seconds=3.0, max_bad_share=0.9)
    assert accounting == failed
    assert not (out / "accounting.json").exists()
    found = {c: reason for reason, e in accounting["reasons"].items() for c in (x.split(" (")[0] for x in e["clips"])}
    expected = {f"bad:{name}": reason for name, (reason, _) in DAMAGE.items()}
    extra = {"bad:beyond": "zero_length", "bad:wanted": "too_long", clips[0].id: "duplicate_id"}
    assert found == expected | extra
    assert (accounting["expected"], accounting["usable"], accounting["unusable"]) == (30, 4, 26)
    assert sum(accounting["sources"]["bad"]["unusable"].values()) == 25
    assert open_dataset(out).info["accounting"] == accounting


def test_a_repaired_file_is_taken_when_the_build_is_run_again(tmp_path):
    clips = make_clips(tmp_path / "wav", n=4)
    lost = pathlib.Path(clips[0].audio_path)
    data = lost.read_bytes()
    lost.unlink()
    with pytest.raises(DataError, match="1 missing"):
        build(clips, tmp_path / "set", source_name="x", shards=2, workers=1)
    lost.write_bytes(data)
    assert build(clips, tmp_path / "set", source_name="x", shards=2, workers=1)["usable"] == 4


@pytest.mark.parametrize(
    ("name", "rate", "kwargs"),
    [
        ("a.wav", 44_100, {"subtype": "PCM_24"}),
        ("a.wav", 8_000, {"subtype": "ULAW"}),
        ("a.flac", 48_000, {}),
        ("a.ogg", 22_050, {"subtype": "VORBIS"}),
        ("a.opus", 48_000, {"format": "OGG", "subtype": "OPUS"}),
        ("a.mp3", 44_100, {}),
        ("a.gsm", 8_000, {"format": "RAW", "subtype": "GSM610"}),
    ],
)
def test_formats_and_rates_decode_to_the_same_tone(tmp_path, name, rate, kwargs):
    sound = tone(1.0, rate)
    if name != "a.gsm":
        sound = np.stack([sound * 1.5, sound * 0.5], axis=1)
    soundfile.write(tmp_path / name, sound, rate, **kwargs)
    got = reader.load(str(tmp_path / name), 0.25, 0.5, reader.Limits())
    assert got.dtype == np.int16
    assert abs(len(got) - RATE // 2) <= 2
    want = tone(0.75)[RATE // 4 : RATE // 4 + len(got)]
    middle = slice(400, -400)
    error = got[middle] / 32768 - want[middle]
    assert np.sqrt((error**2).mean()) < (0.05 if name == "a.gsm" else 0.02)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg"])
def test_one_channel_of_a_file_is_that_channel(tmp_path, name):
    sides = [tone(0.5, hz=400), tone(0.5, hz=1500)]
    soundfile.write(tmp_path / name, np.stack(sides, axis=1), RATE)
    for channel, want in enumerate(sides):
        got = reader.load(str(tmp_path / name), 0.1, 0.3, reader.Limits(), channel=channel)
        error = got / 32768 - want[RATE // 10 : RATE // 10 + len(got)]
        assert np.sqrt((error**2).mean()) < 0.02
    with pytest.raises(BadAudio, match=r"no_channel: channel 2 of 2, counted from 0"):
        reader.load(str(tmp_path / name), 0.0, None, reader.Limits(), channel=2)


def test_channels_of_one_stretch_are_different_clips(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([tone(0.5, hz=400), tone(0.5, hz=1500)], axis=1), RATE)
    base = Clip("s:0", "s", "s:r", str(tmp_path / "a.wav"), captions=("x",), recording_start_s=0.0)
    clips = [dataclasses.replace(base, id=f"s:{channel}", channel=channel) for channel in (0, 1)]
    assert build(clips, tmp_path / "set", source_name="s", workers=1)["usable"] == 2
    stored = open_dataset(tmp_path / "set")
    pitch = {record.id: np.abs(np.fft.rfft(record.audio)).argmax() * 2 for record in map(stored.read, range(2))}
    assert pitch == {"s:0": 400, "s:1": 1500}


def test_a_file_that_may_not_be_read_is_not_missing():
    folder = pathlib.Path(tempfile.mkdtemp())
    user = os.geteuid()
    try:
        folder.chmod(0o755)
        soundfile.write(folder / "a.wav", tone(0.5), RATE)
        (folder / "locked").mkdir()
        soundfile.write(folder / "locked" / "a.wav", tone(0.5), RATE)
        (folder / "a.wav").chmod(0)
        (folder / "locked").chmod(0)
        os.seteuid(user or 65534)  # root may read everything
        for name in ("a.wav", "locked/a.wav"):
            with pytest.raises(BadAudio, match="unreadable: Permission denied"):
                reader.load(str(folder / name), 0.0, None, reader.Limits())
    finally:
        os.seteuid(user)
        (folder / "locked").chmod(0o755)
        shutil.rmtree(folder)


def test_audio_is_read_from_urls_and_out_of_containers(tmp_path):
    sound = tone(1.0)
    for name in ("a.flac", "a.ogg", "a.wav"):
        soundfile.write(tmp_path / name, sound, RATE)
        want = reader.load(str(tmp_path / name), 0.25, 0.5, reader.Limits())
        storage.write(f"memory://audio/{name}", (tmp_path / name).read_bytes())
        np.testing.assert_array_equal(reader.load(f"memory://audio/{name}", 0.25, 0.5, reader.Limits()), want)
        np.testing.assert_array_equal(reader.load(f"file://{tmp_path / name}", 0.25, 0.5, reader.Limits()), want)
    encoded = (tmp_path / "a.flac").read_bytes()
    rows = [{"bytes": encoded, "path": "x.flac"}, {"bytes": b"no sound", "path": "y.wav"}, {"bytes": None, "path": "z"}]
    pq.write_table(pa.table({"audio": rows}), tmp_path / "rows.parquet")
    clips = [Clip(f"p:{i}", "p", f"r:{i}", str(tmp_path / "rows.parquet"), 0.25, 0.5, member=str(i)) for i in range(4)]
    accounting = build(clips, tmp_path / "set", source_name="p", shards=1, workers=1, max_bad_share=0.9)
    stored = open_dataset(tmp_path / "set").read(0).audio
    np.testing.assert_array_equal(stored, reader.load(str(tmp_path / "a.flac"), 0.25, 0.5, reader.Limits()))
    assert {reason: entry["count"] for reason, entry in accounting["reasons"].items()} == {"missing": 2, "not_audio": 1}
    with pytest.raises(BadAudio, match="missing"):
        reader.load("memory://audio/none.wav", 0.0, None, reader.Limits())
    with pytest.raises(BadAudio, match="too_large"):
        reader.load("memory://audio/a.wav", 0.0, None, reader.Limits(max_bytes=100))


def test_g722_decodes_with_start_and_duration(tmp_path):
    import G722

    coded = G722.G722(RATE, 64_000).encode((tone(1.0) * 32768).astype(np.int16))
    (tmp_path / "a.g722").write_bytes(coded)
    got = reader.load(str(tmp_path / "a.g722"), 0.25, 0.5, reader.Limits())
    spectrum = np.abs(np.fft.rfft(got))
    assert len(got) == RATE // 2
    assert spectrum.argmax() * 2 == 300  # Hz
    with pytest.raises(BadAudio, match="too_long"):
        reader.load(str(tmp_path / "a.g722"), 0.0, None, reader.Limits(max_seconds=0.5))


POISON_SCRIPT = """
import json, os, pathlib, signal, sys, time
from alp_jax.core.clip import Clip
from alp_jax.data.audio import reader as audio
from alp_jax.data.building import worker
from alp_jax.data.building.build import build

real_read, real_main = audio.read, worker.main

def read(path, *args):
    name = pathlib.Path(path).name
    if name == "crash.wav":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "hang.wav":
        time.sleep(600)
    if name == "memory.wav":
        bytearray(8 << 30)
    return real_read(path, *args)

def main(*args):
    audio.read = read
    real_main(*args)

if __name__ == "__main__":
    worker.main = main
    folder = pathlib.Path(sys.argv[1])
    clips = [Clip(id=p.name, source="s", recording=p.name, audio_path=str(p)) for p in sorted(folder.iterdir())]
    options = {"shards": 1, "workers": 1, "max_bad_share": 1, "watch": {"clip_seconds": 1.5}}
    print(json.dumps(build(clips, sys.argv[2], source_name="x", **options)))
"""


def test_a_crash_or_hang_costs_one_row(tmp_path):
    good = pathlib.Path(make_clips(tmp_path / "wav", n=4)[0].audio_path).read_bytes()
    for kind in ("crash", "hang", "memory"):
        (tmp_path / "wav" / f"{kind}.wav").write_bytes(good)
    (tmp_path / "script.py").write_text(POISON_SCRIPT)
    command = [sys.executable, tmp_path / "script.py", tmp_path / "wav", tmp_path / "set"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    reasons = json.loads(done.stdout)["reasons"]
    assert {reason: [name.split()[0] for name in entry["clips"]] for reason, entry in reasons.items()} == {
        "decoder_crashed": ["crash.wav", "memory.wav"],
        "decoder_timeout": ["hang.wav"],
    }
    assert open_dataset(tmp_path / "set").num_clips == 4
