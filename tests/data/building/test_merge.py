"""Data sets made of built ones, and clips that are taken out of use after the build."""

import json
import os
import shutil

import numpy as np
import pytest
import soundfile

from alp_jax.cli.main import main
from alp_jax.core import storage
from alp_jax.core.clip import Clip
from alp_jax.core.errors import DataError, UserError
from alp_jax.core.hashing import hash64
from alp_jax.data.building import tables, worker
from alp_jax.data.building.build import build
from alp_jax.data.building.merge import merge
from alp_jax.data.store import ladder
from alp_jax.data.store.dataset import open_dataset
from tests.data.building.clips import run_inline

RATE = 16_000
pytestmark = pytest.mark.usefixtures("inline")


def wav(path, hz):
    soundfile.write(path, (0.3 * np.sin(2 * np.pi * hz * np.arange(4000) / RATE)).astype(np.float32), RATE)
    return str(path)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Two sets and all of their clips: b:0 to b:2 sound as a:0 to a:2, and b:9 is the stretch that a:9 is."""
    root = tmp_path_factory.mktemp("sets")

    def clip(source, i, hz, **fields):
        known = {"recording": f"{source}:{i}", "recording_start_s": 0.0, "captions": ("x", "y")[: 1 + i % 2]}
        path = wav(root / f"{source}{i}.wav", hz)
        return Clip(id=f"{source}:{i}", source=source, audio_path=path, **known | fields)

    clips = {
        "a": [clip("a", i, 200 + 20 * i) for i in range(8)]
        + [clip("a", 9, 900, recording="youtube:q"), clip("a", 10, 300, split="test"), clip("a", 11, 200)],
        "b": [clip("b", i, 200 + 20 * i) for i in range(3)]
        + [clip("b", i, 500 + 20 * i) for i in range(3, 6)]
        + [clip("b", 9, 950, recording="youtube:q"), clip("b", 12, 200, captions=())],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "run", run_inline)
        for source, some in clips.items():
            build(some, root / source, source_name=source, shards=2)
        build(clips["a"] + clips["b"], root / "both", source_name="both", shards=3)
        build(clips["a"] + clips["b"], root / "once", source_name="once", shards=3, dedupe="all")
    return root, clips["a"] + clips["b"]


def used(dataset):
    """id -> (rank, reason) of every clip."""
    names = [dataset.exclusions[code] for code in dataset.excluded]
    return dict(zip(dataset.id.to_pylist(), zip(dataset.ladder.tolist(), names, strict=True), strict=True))


def test_a_merged_set_has_the_ladder_of_one_build_and_verifies(sets, tmp_path):
    root, clips = sets
    accounting = merge([root / "a", root / "b"], tmp_path / "merged")
    merged, both = open_dataset(tmp_path / "merged"), open_dataset(root / "both")
    assert used(merged) == used(both)
    assert merged.verify()["clips"] == len(clips) == len(merged)
    assert {p.name for p in (tmp_path / "merged").iterdir()} == {"dataset.json", "index.arrow", "audit.arrow"}
    for name in ("expected", "usable", "unusable", "splits", "excluded", "reasons", "sources"):
        assert accounting[name] == both.info["accounting"][name], name
    for row in range(len(merged)):
        record = merged.read(row)
        assert record.id == merged.id[row].as_py()
        assert record.source == merged.sources[merged.source[row]]
    again = merge([root / "b", root / "a"], tmp_path / "reversed")
    reversed_set = open_dataset(tmp_path / "reversed")
    assert used(reversed_set) == used(both)
    assert again["splits"] == accounting["splits"]
    assert len({merged.fingerprint, both.fingerprint, reversed_set.fingerprint}) == 3


def test_stretches_and_sounds_of_several_sets_are_used_once_when_asked(sets, tmp_path):
    root, _ = sets
    accounting = merge([root / "a", root / "b"], tmp_path / "merged", dedupe="all")
    found = used(open_dataset(tmp_path / "merged"))
    by_hash = sorted(found, key=lambda name: hash64(ladder.SEED, name))
    for pair in (("a:1", "b:1"), ("a:2", "b:2"), ("a:9", "b:9")):
        first, second = sorted(pair, key=by_hash.index)
        assert found[first][1] == ""
        assert found[second] == (-1, "duplicate_stretch" if pair == ("a:9", "b:9") else "duplicate_audio")
    assert accounting["excluded"] == {"duplicate_audio": 5, "duplicate_stretch": 1}
    once = used(open_dataset(root / "once"))  # one build leaves the stretch out altogether
    assert {name for name, (_, why) in found.items() if not why} == {name for name, (_, why) in once.items() if not why}
    merge([root / "a", root / "b"], tmp_path / "none", dedupe="none")
    kept = {why for _, why in used(open_dataset(tmp_path / "none")).values()}
    assert kept == {"", "duplicate_audio"}  # what the set itself had excluded


def test_an_id_that_two_sets_have_is_used_once_and_merged_sets_merge_again(sets, tmp_path):
    root, clips = sets
    build([*clips[:3], clips[-1]], tmp_path / "c", source_name="c", shards=1)
    accounting = merge([root / "a", tmp_path / "c"], tmp_path / "merged")
    found = open_dataset(tmp_path / "merged")
    assert accounting["excluded"]["duplicate_id"] == 3
    reasons = [found.exclusions[code] for code in found.excluded]
    assert sorted(found.id[row].as_py() for row, why in enumerate(reasons) if why == "duplicate_id") == [
        "a:0",
        "a:1",
        "a:2",
    ]
    assert all(row >= 11 for row, why in enumerate(reasons) if why == "duplicate_id")  # the first set's stay
    twice = merge([tmp_path / "merged", root / "b"], tmp_path / "deep" / "twice")
    dataset = open_dataset(tmp_path / "deep" / "twice")
    assert dataset.verify()["clips"] == len(dataset) == 23
    assert twice["excluded"]["duplicate_id"] == 4


def test_what_cannot_be_merged_is_refused(sets, tmp_path):
    root, _ = sets
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    for folders, out, word in (
        ([root / "a"], tmp_path / "m", "two or more"),
        ([root / "a", root / "a"], tmp_path / "m", "two or more"),
        ([root / "a", tmp_path / "none"], tmp_path / "m", "does not exist"),
        ([root / "a", root / "b"], tmp_path / "full", "not empty"),
        ([root / "a", root / "b"], "memory://m", "is remote"),
    ):
        with pytest.raises(UserError, match=word):
            merge(folders, out)
    with pytest.raises(UserError, match="dedupe"):
        merge([root / "a", root / "b"], tmp_path / "m", dedupe="yes")
    shutil.copytree(root / "a", tmp_path / "a")
    audit = bytearray((tmp_path / "a" / "audit.arrow").read_bytes())
    audit[len(audit) // 2] ^= 1
    (tmp_path / "a" / "audit.arrow").write_bytes(audit)
    with pytest.raises(DataError, match=r"audit\.arrow is not the table"):
        merge([tmp_path / "a", root / "b"], tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_merging_from_the_command_line(sets, tmp_path, capsys):
    root, _ = sets
    merged = str(tmp_path / "merged")
    assert main(["data", "merge", str(root / "a"), str(root / "b"), "--out", merged]) == 0
    assert "19 of 19 clips" in capsys.readouterr().out
    assert main(["data", "verify", merged, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clips"] == 19
    assert main(["data", "merge", str(root / "a"), str(root / "b"), "--out", merged]) == 2
    assert "not empty" in capsys.readouterr().err


@pytest.fixture
def copy(sets, tmp_path):
    shutil.copytree(sets[0] / "a", tmp_path / "a")
    return tmp_path / "a"


def test_excluded_clips_leave_the_ladder_and_change_the_fingerprint(copy):
    before = open_dataset(copy)
    old = used(before)
    rows = before.ladder_rows()[[1, 3]]
    accounting = tables.exclude(copy, rows, ["leak:audio", "leak:recording"])
    after = open_dataset(copy)
    assert before.fingerprint != after.fingerprint
    assert before.read(0).id == after.read(0).id  # whoever had it open goes on
    gone = {before.id[int(row)].as_py() for row in rows}
    assert {name for name, (_, why) in used(after).items() if why.startswith("leak:")} == gone
    ranked = sorted((rank, name) for name, (rank, _) in old.items() if rank >= 0)
    rest = [name for _, name in ranked if name not in gone]
    assert [after.id[int(row)].as_py() for row in after.ladder_rows()] == rest
    assert accounting["excluded"] == {"duplicate_audio": 1, "leak:audio": 1, "leak:recording": 1}
    assert accounting == after.info["accounting"]
    assert sum(row["clips"] for row in accounting["splits"].values()) == len(after) - 3
    assert after.verify()["clips"] == 11


def test_exclusions_are_taken_back_by_their_reason_and_the_set_is_the_old_one_again(copy):
    before = open_dataset(copy)
    old, rows = used(before), np.arange(len(before))
    tables.exclude(copy, rows[:4], ["leak:near"] * 4)
    tables.exclude(copy, rows[3:5], ["leak:audio"] * 2, replace="leak:")
    marked = open_dataset(copy)
    reasons = [marked.exclusions[code] for code in marked.excluded]
    assert all(why in ("leak:audio", "duplicate_audio") for why in reasons[3:5])
    assert "leak:near" not in reasons
    tables.exclude(copy, rows[:0], [], replace="leak:")
    restored = open_dataset(copy)
    assert restored.fingerprint == before.fingerprint
    assert used(restored) == old
    assert restored.info["accounting"] == before.info["accounting"]


def test_a_stop_between_the_two_files_leaves_the_old_set(copy, monkeypatch):
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    real = storage.write

    def stop(path, data):
        if os.path.basename(path) == "dataset.json":
            raise KeyboardInterrupt
        real(path, data)

    monkeypatch.setattr(storage, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        tables.exclude(copy, np.array([0]), ["leak:audio"])
    assert {name: data for name, data in before.items() if (copy / name).read_bytes() != data} == {}
    assert open_dataset(copy).verify()["clips"] == 11
    monkeypatch.setattr(storage, "write", real)
    tables.exclude(copy, np.array([0]), ["leak:audio"])
    assert open_dataset(copy).verify()["clips"] == 11
    tables.exclude(copy, np.array([1]), ["leak:audio"])
    assert len(list(copy.glob("index*"))) == 2  # the one before the last goes


def test_senseless_exclusions_are_refused(copy):
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    for rows, reasons, word in (([11], ["leak:x"], "11 clips"), ([-1], ["x"], "11 clips"), ([0], [""], "reason")):
        with pytest.raises(UserError, match=word):
            tables.exclude(copy, np.array(rows), reasons)
    with pytest.raises(UserError, match="reason"):
        tables.exclude(copy, np.array([0, 1]), ["x"])
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    index = bytearray((copy / "index.arrow").read_bytes())
    index[len(index) // 2] ^= 1
    (copy / "index.arrow").write_bytes(index)
    with pytest.raises(DataError, match="index"):
        tables.exclude(copy, np.array([0]), ["leak:x"])
