"""Damaged data sets are noticed and named; interrupted builds go on and give the same bytes."""

import itertools
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time

import google_crc32c
import numpy as np
import pytest
import soundfile

from alp_jax.bench.bit_flips import flips
from alp_jax.cli.main import main
from alp_jax.core.clip import Clip
from alp_jax.core.errors import DataError, UserError
from alp_jax.data.building import tables
from alp_jax.data.building.build import build
from alp_jax.data.store import records
from alp_jax.data.store.dataset import open_dataset
from alp_jax.data.store.stats import stats

RATE = 16_000


def make_clips(folder, n):
    folder.mkdir(exist_ok=True)
    clips = []
    for i in range(n):
        path = folder / f"{i}.wav"
        sound = 0.3 * np.sin(np.arange(2400) * (0.05 + 0.001 * i))
        soundfile.write(path, sound, RATE)
        caption = (f"A tone, number {i}",) if i % 2 else (f"tone {i}", "the same TONE")
        split = "test" if i % 5 == 0 else "train"
        clips.append(Clip(f"t:{i}", "t", f"r:{i}", str(path), captions=caption, split=split))
    return clips


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    root = tmp_path_factory.mktemp("intact")
    build(make_clips(root / "wav", 15), root / "set", source_name="tones", shards=3, workers=1)
    return root / "set"


@pytest.fixture
def copy(intact, tmp_path):
    shutil.copytree(intact, tmp_path / "set")
    return tmp_path / "set"


def shards(path):
    return sorted(path.glob("*.tfrecord"))


def test_framing_has_the_published_checksums():
    assert google_crc32c.value(b"123456789") == 0xE3069283  # RFC 3720's check value of CRC-32C
    # the record of b"abc" as TensorFlow's writer makes it
    length = struct.pack("<Q", 3)
    crc = google_crc32c.value(length)
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32
    assert records.frame(b"abc")[:12] == length + struct.pack("<I", masked)
    assert len(records.frame(b"abc")) == 19


def test_every_flipped_byte_is_found_and_named(copy):
    path = shards(copy)[1]
    good = path.read_bytes()
    dataset = open_dataset(copy)
    place = list(zip(*(column.tolist() for column in dataset._place), strict=True))
    rows = {record: row for row, (number, record, _, _) in enumerate(place) if number == 1}
    starts = [offset for number, _, offset, _ in place if number == 1]
    rng = random.Random(0)
    interesting = [start + extra for start in starts for extra in (0, 7, 8, 11, 12)] + [len(good) - 1, len(good) - 4]
    for position in interesting + [rng.randrange(len(good)) for _ in range(300)]:
        damaged = bytearray(good)
        damaged[position] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        record = max(i for i, start in enumerate(starts) if start <= position)
        with pytest.raises(DataError, match=rf"{path.name} record {record}: "):
            dataset.read(rows[record])
        other = (record + 1) % len(starts)
        assert dataset.read(rows[other]).captions
        if position in interesting:
            with pytest.raises(DataError, match=rf"{path.name} record {record}: "):
                dataset.verify()
    path.write_bytes(good)
    assert dataset.verify()["clips"] == 15


def test_flips_can_be_tried_on_any_data_set_and_a_miss_is_told(copy, capsys, monkeypatch):
    before = {p.name: p.read_bytes() for p in copy.iterdir()}
    assert main(["data", "verify", str(copy), "--flips", "10000"]) == 0
    assert "10000 of 10000 changed bytes, in 15 records, were noticed" in capsys.readouterr().out
    assert main(["data", "verify", str(copy), "--flips", "20", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["noticed"] == 20
    assert main(["data", "verify", str(copy), "--flips", "-1"]) == 2
    assert {p.name: p.read_bytes() for p in copy.iterdir()} == before
    monkeypatch.setattr(records, "_data", lambda data, *rest: data)  # a reader that does not look
    found = flips(open_dataset(copy), 2000)
    assert 0 < found["noticed"] < 200  # those in lengths
    assert main(["data", "verify", str(copy), "--flips", "100"]) == 44
    assert "only" in capsys.readouterr().err


def test_cut_missing_swapped_and_grown_shards_are_refused_at_opening(copy):
    first, second, _ = shards(copy)
    good = first.read_bytes()
    offsets = open_dataset(copy)._place[2]
    boundary = int(offsets[1])
    for data in (good[:boundary], good[: boundary + 5], b"", good + b"x"):
        first.write_bytes(data)
        with pytest.raises(DataError, match=rf"{first.name} has {len(data)} bytes"):
            open_dataset(copy)
    first.unlink()
    with pytest.raises(DataError, match=f"{first.name} is missing"):
        open_dataset(copy)
    first.write_bytes(second.read_bytes())
    with pytest.raises(DataError, match=first.name):
        open_dataset(copy).verify()


def test_whole_records_in_the_wrong_place_are_found(tmp_path):
    build(make_clips(tmp_path / "wav", 5), tmp_path / "set", source_name="t", shards=1, workers=1, codec="pcm")
    (path,), dataset = shards(tmp_path / "set"), open_dataset(tmp_path / "set")
    data, starts = path.read_bytes(), [*dataset._place[2].tolist(), path.stat().st_size]
    records = [data[start:end] for start, end in itertools.pairwise(starts)]
    i, j = (row for row in range(5) if dataset.read(row).id in ("t:2", "t:4"))
    assert len(records[i]) == len(records[j])  # nothing but the content tells them apart
    records[i], records[j] = records[j], records[i]
    path.write_bytes(b"".join(records))
    for row in (i, j):
        with pytest.raises(DataError, match=rf"{path.name} record {row} is clip t:.*index says t:"):
            dataset.read(row)
    with pytest.raises(DataError, match=rf"{path.name} record {i} is clip"):
        dataset.verify()


def test_an_edited_or_foreign_description_is_refused(copy):
    description = copy / "dataset.json"
    info = json.loads(description.read_text())
    for change in ({"num_clips": 14}, {"codec": "pcm"}, {"fingerprint": "0" * 16}):
        description.write_text(json.dumps(info | change))
        with pytest.raises(DataError, match=r"dataset\.json was edited"):
            open_dataset(copy)
    description.write_text("[]")
    with pytest.raises(DataError, match=r"dataset\.json"):
        open_dataset(copy)
    description.write_text("{")
    with pytest.raises(UserError, match=r"dataset\.json"):
        open_dataset(copy)
    description.unlink()
    with pytest.raises(UserError, match="not a data set"):
        open_dataset(copy)
    (copy / "build.json").write_text("{}")
    with pytest.raises(DataError, match="half built"):
        open_dataset(copy)
    with pytest.raises(UserError, match="does not exist"):
        open_dataset(copy / "nowhere")


def test_a_changed_index_is_found(copy):
    index = copy / "index.arrow"
    data = bytearray(index.read_bytes())
    data[len(data) // 2] ^= 1
    index.write_bytes(data)
    with pytest.raises(DataError):
        open_dataset(copy).verify()


BUILDER = """
import pathlib, sys, time
from alp_jax.core.clip import Clip
from alp_jax.data.building import shard
from alp_jax.data.building.build import build
write = shard.write
def write_later(*args):  # leaves time to be killed; workers import this file too
    time.sleep(float(sys.argv[4]))
    write(*args)
shard.write = write_later
if __name__ == "__main__":
    root = pathlib.Path(sys.argv[1])
    wavs = [root / "wav" / f"{i}.wav" for i in range(120)]
    clips = [Clip(f"t:{p.stem}", "t", f"r:{p.stem}", str(p), captions=("a tone",)) for p in wavs]
    build(clips, root / sys.argv[2], source_name="t", shards=12, workers=int(sys.argv[3]))
"""


@pytest.mark.parametrize("kills", [["2"], pytest.param(["1", "2", "1"], marks=pytest.mark.nightly)], ids=len)
def test_a_killed_build_goes_on_and_gives_the_same_bytes(tmp_path, kills):
    """``kills``: the workers of each build that is killed."""
    make_clips(tmp_path / "wav", 120)
    (tmp_path / "builder.py").write_text(BUILDER)
    command = [sys.executable, str(tmp_path / "builder.py"), str(tmp_path)]
    subprocess.run([*command, "whole", "1", "0"], check=True, capture_output=True)
    want = {p.name: p.read_bytes() for p in (tmp_path / "whole").iterdir()}
    out, finished = tmp_path / "set", {}
    for workers in kills:
        process = subprocess.Popen([*command, "set", workers, "0.5"], stderr=subprocess.DEVNULL)
        while len(list(out.glob("*.index"))) <= len(finished):
            assert process.poll() is None, "the build ended before it could be killed"
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.8)  # its workers see that their parent went
        assert (out / "build.json").exists(), "killed too late"
        with pytest.raises(DataError, match="half built"):
            open_dataset(out)
        with pytest.raises(UserError, match="a different build"):
            build(make_clips(tmp_path / "wav", 3), out, source_name="t", shards=12)
        done = {p: p.stat().st_mtime_ns for p in out.glob("clips-*")}
        assert finished.items() <= done.items(), "a finished shard was redone"
        finished = {p: t for p, t in done.items() if p.with_name(p.name + ".index") in done or p.suffix == ".index"}
    subprocess.run([*command, "set", "2", "0"], check=True, capture_output=True)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == want
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in finished.items())


def test_a_damaged_shard_of_an_unfinished_build_is_redone(tmp_path):
    clips = make_clips(tmp_path / "wav", 6)
    build(clips, tmp_path / "set", source_name="t", shards=2, workers=1)
    whole = {p.name: p.read_bytes() for p in (tmp_path / "set").iterdir()}
    plan = json.loads(whole["dataset.json"])["plan"]
    (tmp_path / "set" / "dataset.json").unlink()
    (tmp_path / "set" / "build.json").write_text(json.dumps({"plan": plan}))
    first, second = shards(tmp_path / "set")
    first.write_bytes(first.read_bytes()[:-1])
    second.with_name(second.name + ".index").write_bytes(b"ARROW1")
    first.with_name(f".{first.name}.999").write_bytes(b"what a killed worker leaves")
    build(clips, tmp_path / "set", source_name="t", shards=2, workers=1)
    assert {p.name: p.read_bytes() for p in (tmp_path / "set").iterdir()} == whole


def test_stats_count_what_is_in_use(copy):
    found = stats(open_dataset(copy))
    assert (found["clips"], found["captions"], found["pairs"], found["excluded"]) == (15, 23, 18, {})
    assert found["hours"] == pytest.approx(15 * 0.15 / 3600, abs=1e-4)
    assert found["splits"]["test"]["sources"]["t"]["clips"] == 3
    assert found["seconds"] == dict.fromkeys(("0", "5", "50", "95", "100"), 0.15)
    dataset = open_dataset(copy)
    tables.exclude(copy, dataset.rows("test"), ["leak:audio"] * 3)
    left = stats(open_dataset(copy))
    assert (left["clips"], left["captions"], left["pairs"]) == (12, 18, 18)
    assert (left["excluded"]["leak:audio"]["clips"], left["excluded"]["leak:audio"]["captions"]) == (3, 5)
    assert list(left["splits"]) == ["train"]


def test_verbs_tell_people_and_programs(tmp_path, capsys):
    make_clips(tmp_path / "wav", 4)
    table = "".join(f"{i}.wav,a tone of number {i}\n" for i in range(4))
    (tmp_path / "captions.csv").write_text("file_name,caption\n" + table)
    out = str(tmp_path / "set")
    folder = ["data", "build", "folder", "--audio", str(tmp_path / "wav"), "--metadata", str(tmp_path / "captions.csv")]
    folder += ["--split", "train"]
    assert main([*folder, "--out", out, "--workers", "1", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["accounting"]["usable"] == 4
    assert main([*folder, "--out", out]) == 0
    assert "4 of 4 clips" in capsys.readouterr().out
    for verb, word in (("verify", "all intact"), ("stats", "4 training pairs")):
        assert main(["data", verb, out]) == 0
        assert word in capsys.readouterr().out
        assert main(["data", "--json", verb, out]) == 0
        assert json.loads(capsys.readouterr().out)["clips"] == 4
    assert main(["tokenizer", "--data", out, "--vocab_size", "276", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["vocab_size"] == 276
    assert (tmp_path / "set" / "tokenizer.model").exists()
    for budget, cut in ((3, 4), (100, 0)):
        assert main(["data", "--json", "captions", out, "--text_budget", str(budget)]) == 0
        assert json.loads(capsys.readouterr().out)["all"]["tokens_per_caption"]["truncated"] == cut
    assert main(["data", "captions", out, "--text_budget", "3"]) == 0
    assert "of more than 3, which training cuts: 100.0%" in capsys.readouterr().out
    path = shards(tmp_path / "set")[0]
    path.write_bytes(path.read_bytes()[:-1])
    wrong = [
        (["data", "verify", out], 44, path.name),
        (["data", "stats", str(tmp_path / "none")], 2, "does not exist"),
        (["tokenizer", "--data", str(tmp_path)], 2, "not a data set"),
        (["data"], 2, "ACTION"),
        (["data", "build", "folder", "--out", out], 2, "--audio"),
        ([*folder, "--out", out, "--codec", "mp3"], 2, "--codec"),
        ([*folder, "--out", out, "--codec", "pcm"], 2, "a different build"),
        ([*folder, "--out", out, "--workers", "-1"], 2, "--workers"),
        ([*folder, "--out", str(tmp_path / "wav")], 2, "not empty"),
        (["data", "build", "mini", "--out", str(tmp_path / "new"), "--cache", str(tmp_path / "no")], 2, "fetch mini"),
    ]
    for argv, code, word in wrong:
        assert main(argv) == code, argv
        captured = capsys.readouterr()
        assert word in captured.err
        assert captured.err.count("\n") == 1
        assert "Traceback" not in captured.err
    (tmp_path / "wav" / "2.wav").unlink()
    assert main([*folder, "--out", str(tmp_path / "bad"), "--workers", "1"]) == 44
    assert "1 missing" in capsys.readouterr().err
    assert os.listdir(tmp_path / "bad")
