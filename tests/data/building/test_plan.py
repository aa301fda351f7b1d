"""What a build is going to do: the order of clips, duplicates, rejected rows, filters; and what the account says."""

import dataclasses
import json
import math
import pathlib

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from alp_jax.cli.main import main
from alp_jax.core import files, storage
from alp_jax.core.clip import Clip, Event, Rejected
from alp_jax.core.errors import DataError, UserError
from alp_jax.core.hashing import hash64
from alp_jax.data.building import plan, rows, shard, tables, worker
from alp_jax.data.building.build import Settings, build, preview
from alp_jax.data.building.filters import CaptionFilter
from alp_jax.data.building.merge import merge
from alp_jax.data.store import ladder
from alp_jax.data.store.dataset import open_dataset
from alp_jax.data.text.normalise import normalise

RATE = 16_000


@pytest.fixture(autouse=True)
def inline(monkeypatch):
    """Shards are written in this process: no test here is about processes."""

    def run(tasks, workers, **watch):
        for task in tasks:
            shard.write(task, {}, lambda number: None)
            yield task.clips

    monkeypatch.setattr(worker, "run", run)


def clip(i, **fields):
    return Clip(**({"id": f"a:{i}", "source": "a", "recording": f"r:{i}", "audio_path": f"/x/{i}.wav"} | fields))


def spool(clips, tmp_path, dedupe="source", captions=None):
    spooled = plan.spool(clips, tmp_path / "spool", dedupe=dedupe, captions=captions or CaptionFilter())
    return spooled, plan.arrange(spooled, dedupe)


def kept(spooled, order):
    return spooled.gather(order)["id"].to_pylist()


def test_a_plan_holds_the_clips_in_ladder_order_and_gives_them_back(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "_BATCH", 8)  # several batches, several gathers
    clips = [
        clip(
            i,
            duration_s=None if i % 3 else 1.5,
            recording_start_s=None if i % 2 else i / 7,
            captions=("x", "ü" * i)[: i % 3],
            tags=("t",),
            labels={"b": "2", "a": "1"} if i % 4 else {},
            events=(Event(0.1, 0.7, "beep"),) * (i % 2),
            split=("train", "valid", "test")[i % 3],
            group="g",
            license="CC0",
            member=str(i),
        )
        for i in range(50)
    ]
    spooled, order = spool(clips, tmp_path)
    counts = plan.write(spooled, order, 7, tmp_path / "plan.arrow")
    found = [c for s in range(7) for c in plan.read(tmp_path / "plan.arrow", s)]
    assert found == sorted(clips, key=lambda c: hash64(ladder.SEED, c.id))
    assert counts == [len(plan.read(tmp_path / "plan.arrow", s)) for s in range(7)]
    assert max(counts) - min(counts) <= 1
    backwards, backwards_order = spool(clips[::-1], tmp_path)
    assert plan.digest(backwards, backwards_order) == plan.digest(spooled, order)
    moved = [dataclasses.replace(c, audio_path=f"/elsewhere/{pathlib.Path(c.audio_path).name}") for c in clips]
    assert plan.digest(*spool(moved, tmp_path)) == plan.digest(spooled, order)
    for change in ({"captions": ("y",)}, {"start_s": 0.5}, {"labels": {"a": "9"}}, {"member": "z"}, {"license": ""}):
        changed = [dataclasses.replace(clips[0], **change), *clips[1:]]
        assert plan.digest(*spool(changed, tmp_path)) != plan.digest(spooled, order), change


def test_hashes_that_meet_fall_back_on_the_id(tmp_path, monkeypatch):
    monkeypatch.setattr(ladder, "place", lambda clip_id: 7)
    spooled, order = spool([clip(i) for i in (3, 1, 2, 1)], tmp_path)
    assert kept(spooled, order) == ["a:1", "a:2", "a:3"]
    assert (spooled.left_out["duplicate_id"].count, spooled.left_out["duplicate_id"].names) == (1, ["a:1 (/x/1.wav)"])
    assert ladder.ranks(["c", "a", "b"], np.array([True, True, False])).tolist() == [1, 0, -1]


def test_of_one_stretch_an_evaluation_clip_stays_else_the_first_of_the_ladder(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "_BATCH", 3)
    same = {"recording": "youtube:x", "recording_start_s": 30.0, "duration_s": 10.0}
    clips = [clip(i, **same) for i in range(6)] + [
        clip("test", **same, split="test"),
        clip("later", **same | {"recording_start_s": 40.0}),
        clip("longer", **same | {"duration_s": 11.0}),
        clip("other", **same, source="b"),
        clip("whole", recording="youtube:x"),
        clip("member", recording="youtube:x", audio_path="/x/whole.wav", member="1"),
        clip("folder", recording="youtube:x", audio_path="/y/whole.wav"),  # another file of that name
    ]
    spooled, order = spool(clips, tmp_path)
    others = {"a:later", "a:longer", "a:whole", "a:member", "a:folder"}
    assert set(kept(spooled, order)) == others | {"a:test", "a:other"}
    assert spooled.left_out["duplicate_stretch"].sources == {"a": 6}
    spooled, order = spool(clips, tmp_path, dedupe="all")
    assert set(kept(spooled, order)) == others | {"a:test"}
    assert len(spool(clips, tmp_path, dedupe="none")[1]) == len(clips)
    train = clips[:6]
    first = min((c.id for c in train), key=lambda name: hash64(ladder.SEED, name))
    for some in (train, train[::-1]):
        assert kept(*spool(some, tmp_path)) == [first]


def test_rows_that_cannot_be_used_are_counted_and_named(tmp_path):
    broken = [
        Rejected("a.csv row 3", "empty_caption"),
        Rejected("a.csv row 9", "bad_time", "start 'x'"),
        clip("nan", start_s=math.nan),
        clip("minus", start_s=-1.0),
        clip("none", duration_s=0.0),
        clip("unknown", recording_start_s=math.nan),
        clip("late", duration_s=math.inf),
        clip("half", captions=("\ud800",)),
        clip("many", captions=("x",) * 70_000),
    ]
    spooled, order = spool([*broken, clip(1)], tmp_path)
    assert kept(spooled, order) == ["a:1"]
    assert {reason: entry.count for reason, entry in spooled.left_out.items()} == {
        "empty_caption": 1,
        "bad_time": 6,
        "not_utf8": 1,
        "bad_record": 1,
    }
    assert spooled.left_out["bad_time"].names[0] == "a.csv row 9: start 'x'"
    assert spooled.left_out["bad_time"].sources == {"a": 5}
    assert spooled.expected == {"a": 8}
    with pytest.raises(UserError, match=r"no clips to build .*: 1 empty_caption, such as a.csv row 3"):
        build(broken[:1], tmp_path / "set", source_name="x")
    assert not (tmp_path / "set").exists()


def test_captions_are_filtered_for_training_only(tmp_path):
    rules = CaptionFilter(min_words=2, max_words=4, min_ascii=0.8)
    clips = [
        clip(1, captions=("one", "two words", "four words are enough", "but five words are not")),
        clip(2, captions=("no",)),
        clip(3, captions=("no",), split="test"),
        clip(4),
        clip(5, captions=("две собаки", "deux chiens à la")),
    ]
    spooled, order = spool(clips, tmp_path, captions=rules)
    table = spooled.gather(order)
    found = dict(zip(table["id"].to_pylist(), table["captions"].to_pylist(), strict=True))
    assert found == {
        "a:1": ["two words", "four words are enough"],
        "a:3": ["no"],
        "a:4": [],
        "a:5": ["deux chiens à la"],
    }
    assert spooled.left_out["filtered_captions"].count == 1
    assert spooled.dropped_captions == {"too_few_words": 2, "too_many_words": 1, "not_ascii": 1}
    clips[0] = clip(1, captions=("I'm sorry, I cannot hear it", "Caption: rain", "rain falls"))
    spooled, order = spool(clips[:4], tmp_path, captions=CaptionFilter(no_defects=True))
    table = spooled.gather(order)
    found = dict(zip(table["id"].to_pylist(), table["captions"].to_pylist(), strict=True))
    assert found == {"a:1": ["rain falls"], "a:2": ["no"], "a:3": ["no"], "a:4": []}
    assert spooled.dropped_captions == {"refusal": 1, "label": 1}
    for bad in ({"min_words": -1}, {"min_words": 3, "max_words": 2}, {"min_ascii": 1.5}):
        with pytest.raises(UserError, match=next(iter(bad))):
            CaptionFilter(**bad)


def wav(path, hz, level=0.3, seconds=0.5):
    sound = np.clip(level * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE), -1, 1)
    soundfile.write(path, sound.astype(np.float32), RATE, subtype="PCM_16")
    return str(path)


def test_equal_sounds_are_used_once_and_every_clip_is_accounted_for(tmp_path):
    paths = [wav(tmp_path / f"{i}.wav", 300) for i in range(4)] + [wav(tmp_path / "other.wav", 400)]
    loud, faint = wav(tmp_path / "loud.wav", 300, level=3.0), wav(tmp_path / "faint.wav", 300, level=0.002)
    clips = [clip(i, audio_path=path, captions=("a tone",)) for i, path in enumerate(paths)]
    clips += [
        clip("b", source="b", audio_path=paths[0], captions=("a tone",), recording_start_s=2.5),
        clip("test", audio_path=paths[1], captions=("a Tone!",), split="test"),
        clip("loud", audio_path=loud),
        clip("faint", audio_path=faint),
        clip("short", audio_path=paths[4], captions=("x",), start_s=0.1, duration_s=3.0),
        clip("lost", audio_path=str(tmp_path / "lost.wav")),
        clip("lost", audio_path=str(tmp_path / "lost.wav")),
        Rejected("a.csv row 7", "empty_caption"),
    ]
    accounting = build(clips, tmp_path / "set", source_name="x", shards=2, max_bad_share=0.3)
    dataset = open_dataset(tmp_path / "set")
    out = {dataset.id[row].as_py() for row in np.flatnonzero(dataset.excluded)}
    same = sorted((f"a:{i}" for i in range(4)), key=lambda name: hash64(ladder.SEED, name))
    assert out == set(same[1:])
    assert [dataset.exclusions[code] for code in dataset.excluded].count("duplicate_audio") == 3
    in_ladder = {dataset.id[row].as_py() for row in dataset.ladder_rows()}
    assert in_ladder == {same[0], "a:4", "a:b", "a:short"}
    assert (accounting["expected"], accounting["usable"], accounting["unusable"]) == (13, 10, 3)
    assert {reason: entry["count"] for reason, entry in accounting["reasons"].items()} == {
        "missing": 1,
        "duplicate_id": 1,
        "empty_caption": 1,
    }
    assert accounting["excluded"] == {"duplicate_audio": 3}
    assert sum(row["clips"] for row in accounting["splits"].values()) + 3 == accounting["usable"]
    a = accounting["sources"]["a"]
    assert (a["expected"], a["unusable"], a["excluded"]) == (
        11,
        {"missing": 1, "duplicate_id": 1},
        {"duplicate_audio": 3},
    )
    assert a["splits"]["test"] == {"clips": 1, "hours": 0.0001, "captions": 1}
    measured = {key: a["measured"][key] for key in ("clips", "clipped", "quiet", "shorter_than_stated")}
    assert measured == {"clips": 9, "clipped": 1, "quiet": 1, "shorter_than_stated": 1}
    with pytest.raises(DataError, match=r"3 of 13 clips are unusable"):
        build(clips, tmp_path / "strict", source_name="x", shards=2)
    assert files.read_json(tmp_path / "strict" / "accounting.json") == accounting
    everything = build(clips, tmp_path / "all", source_name="x", shards=2, max_bad_share=0.3, dedupe="all")
    assert everything["excluded"] == {"duplicate_audio": 4}
    assert build(clips, tmp_path / "none", source_name="x", max_bad_share=0.3, dedupe="none")["excluded"] == {}


def test_of_equal_sounds_the_one_with_the_most_captions_is_used(tmp_path):
    paths = [wav(tmp_path / f"{i}.wav", 300) for i in range(5)]
    for rich in range(5):  # wherever its hash puts it
        clips = [
            clip(i, audio_path=path, captions=("x", "y", "z")[: 1 + 2 * (i == rich)]) for i, path in enumerate(paths)
        ]
        accounting = build(clips, tmp_path / f"set{rich}", source_name="x")
        dataset = open_dataset(tmp_path / f"set{rich}")
        assert [dataset.id[row].as_py() for row in dataset.ladder_rows()] == [f"a:{rich}"]
        assert accounting["splits"]["train"]["captions"] == 3
        parts = [tmp_path / f"{rich}-{part}" for part in range(2)]
        for part, some in zip(parts, (clips[:2], clips[2:]), strict=True):
            build(some, part, source_name="x")
        merge(parts, tmp_path / f"merged{rich}")
        merged = open_dataset(tmp_path / f"merged{rich}")
        assert [merged.id[row].as_py() for row in merged.ladder_rows()] == [f"a:{rich}"]


def test_what_audits_compare_is_stored_beside_the_index(tmp_path):
    clips = [
        clip(
            i,
            audio_path=wav(tmp_path / f"{i}.wav", 300 + i),
            captions=("A tone!", "b")[: i % 3],
            recording_start_s=float(i) if i else None,
        )
        for i in range(5)
    ]
    build(clips, tmp_path / "set", source_name="x", shards=2)
    dataset = open_dataset(tmp_path / "set")
    table = pa.ipc.open_file(str(tmp_path / "set" / dataset.info["audit"]["name"])).read_all()
    by_id = {c.id: c for c in clips}
    for row, values in enumerate(table.to_pylist()):
        known, record = by_id[dataset.id[row].as_py()], dataset.read(row)
        assert values["place"] == hash64(ladder.SEED, known.id)
        assert values["caption_hashes"] == [hash64(0, normalise(text)) for text in known.captions]
        assert values["audio_hash"] == shard.audio_hash(record.audio)
        stated = known.recording_start_s
        assert values["start_s"] == stated if stated is not None else math.isnan(values["start_s"])
    assert table.num_rows == 5
    assert table["place"].to_pylist() == sorted(table["place"].to_pylist())


def test_a_dry_run_gives_the_account_of_a_build_without_decoding(tmp_path, capsys):
    lines = ["id,file_name,caption,split,start,duration"]
    for i in range(6):
        wav(tmp_path / f"{i}.wav", 300 + i)
        lines.append(f"{i},{i}.wav,tone number {i},{'test' if i == 5 else 'train'},0,0.5")
    lines += ["0,0.wav,once more,train,0.1,0.4", "6,1.wav,one,train,0.1,0.4", "7,2.wav,too late,train,x,0.5"]
    lines += ["8,none.wav,not there,train,0,0.5"]
    (tmp_path / "captions.csv").write_text("\n".join(lines) + "\n")
    argv = ["data", "build", "folder", "--metadata", str(tmp_path / "captions.csv"), "--min_words", "2"]
    audio = ["--audio", str(tmp_path)]
    assert main([*argv, *audio, "--dry_run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["accounting"]
    assert main([*argv, *audio, "--out", str(tmp_path / "set"), "--max_bad_share", "0.5", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)["accounting"]
    assert (told["shards"], told["without_length"], told["dropped_captions"]) == (1, {}, {"too_few_words": 1})
    for entry in made["sources"].values():
        del entry["measured"]
    assert {key: told[key] for key in made} == made
    assert made["reasons"].keys() == {"bad_time", "duplicate_id", "filtered_captions", "missing"}
    assert main([*argv, "--dry_run"]) == 0
    text = capsys.readouterr().out
    assert "folder, metadata: 7 of 10 clips" in text  # whether files are there is not known
    assert "nothing was written" in text
    assert main([*argv, *audio, "--dry_run", "--out", "x"]) == 2
    assert "--out does not go with --dry_run" in capsys.readouterr().err
    assert main([*argv, *audio]) == 2
    assert "--out DIR is needed" in capsys.readouterr().err


def test_without_audio_only_stated_stretches_are_duplicates(tmp_path):
    same = {"recording": "r", "audio_path": "", "duration_s": 1.0}
    placed = {"recording_start_s": 3.0}
    clips = [clip(0, **same), clip(1, **same), clip(2, **same, **placed), clip(3, **same, **placed)]
    found = preview(clips, Settings())
    assert (found["usable"], found["reasons"]["duplicate_stretch"]["count"]) == (3, 1)
    assert found["without_length"] == {}
    assert preview([clip(0, audio_path="")], Settings())["without_length"] == {"a": 1}
    with pytest.raises(UserError, match="no clips to build from: 1 empty_caption"):
        preview([Rejected("a.csv row 3", "empty_caption")], Settings())


def test_only_its_own_or_an_empty_folder_is_taken(tmp_path):
    clips = [clip(i, audio_path=wav(tmp_path / f"{i}.wav", 300 + i)) for i in range(3)]
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        build(clips, tmp_path / "file", source_name="x")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / ".plan.spool").write_text("of a build that was killed while it read the metadata")

    def breaks():
        yield clips[0]
        raise UserError("captions.csv header: no column for the file")

    with pytest.raises(UserError, match="no column"):
        build(breaks(), tmp_path / "new", source_name="x")
    assert not (tmp_path / "new").exists()
    build(clips, tmp_path / "set", source_name="x", shards=9)
    names = {p.name for p in (tmp_path / "set").iterdir()}
    shards = {f"clips-0000{s}-of-00003.tfrecord{end}" for s in range(3) for end in ("", ".index")}
    assert names == shards | {"dataset.json", "index.arrow", "audit.arrow"}


def test_every_corpus_can_be_named_and_says_what_it_needs(capsys):
    build_to = ["data", "build", "--out", "/nowhere"]
    for argv, word in (
        (["audiocaps"], "needs --metadata FILE... (train.csv, val.csv, test.csv"),
        (["audiocaps", "--metadata", "x.csv"], "and --audio DIR"),
        (["tfds"], "needs --metadata FILE... (version folders"),
        (["audiocap", "--metadata", "x.csv"], "audiocap"),
        (["audiocaps", "--metadata", "x.csv", "--audio", "/", "--option", "version"], "KEY=VALUE"),
        (["audiocaps", "--metadata", "x.csv", "--audio", "/", "--option", "verson=1"], "did you mean 'version'"),
        (["mini", "--metadata", "x.csv"], "--metadata is not for the mini corpus"),
        (["folder", "--metadata", "x.csv", "--audio", "/", "--min_words", "-1"], "min_words"),
        (["folder", "--metadata", "x.csv", "--audio", "/", "--beam_options", "--runner=x"], "beam_options"),
    ):
        assert main([*build_to, *argv]) == 2, argv
        error = capsys.readouterr().err
        assert word in error
        assert error.count("\n") == 1


def test_rows_keep_the_types_of_a_clip():
    assert {field.name for field in dataclasses.fields(Clip)} <= set(rows.SCHEMA.names) | {"labels"}


def test_a_data_set_is_built_where_a_url_points(tmp_path, monkeypatch):
    monkeypatch.setenv("ALP_CACHE", str(tmp_path / "cache"))
    clips = [clip(i, audio_path=wav(tmp_path / f"{i}.wav", 300 + i), captions=("a",)) for i in range(5)]
    accounting = build(clips, "memory://sets/tones", source_name="x", shards=2)
    build(clips, f"file://{tmp_path}/tones", source_name="x", shards=2)
    local = {path.name: path.read_bytes() for path in (tmp_path / "tones").iterdir()}
    assert {name: storage.read(f"memory://sets/tones/{name}") for name in storage.names("memory://sets/tones")} == local
    dataset = open_dataset("memory://sets/tones")
    assert dataset.verify()["clips"] == 5
    assert dataset.read(3).audio is not None
    assert build(clips, "memory://sets/tones", source_name="x", shards=2) == accounting
    with pytest.raises(UserError, match="another build"):
        build(clips[1:], "memory://sets/tones", source_name="x", shards=2)
    tables.exclude("memory://sets/tones", np.array([1]), ["leak:audio"])
    assert open_dataset("memory://sets/tones").info["accounting"]["excluded"] == {"leak:audio": 1}
    build([dataclasses.replace(c, id=f"b:{c.id}") for c in clips], "memory://sets/more", source_name="x", shards=1)
    merge(["memory://sets/tones", "memory://sets/more"], str(tmp_path / "merged"), dedupe="all")
    merged = open_dataset(tmp_path / "merged")
    assert merged.verify()["clips"] == 10
    assert merged.info["accounting"]["excluded"] == {"duplicate_audio": 4, "leak:audio": 1}


def test_training_clips_without_a_caption_are_told(tmp_path, capsys):
    for i in range(3):
        wav(tmp_path / f"{i}.wav", 300 + i)
    (tmp_path / "captions.csv").write_text("path,caption,split\n0.wav,a tone,train\n1.wav,nan,train\n2.wav,NULL,test\n")
    argv = ["data", "build", "folder", "--metadata", str(tmp_path / "captions.csv"), "--audio", str(tmp_path)]
    assert main([*argv, "--dry_run"]) == 0
    assert "without a caption, so no part of the training pairs: 1 training clips\n" in capsys.readouterr().out
    assert main([*argv, "--dry_run", "--option", "ignore=x", "--option", "ignore=y"]) == 2
    assert "give each key once, as in ignore=COLUMN,COLUMN" in capsys.readouterr().err
