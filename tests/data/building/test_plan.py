"""What a build is going to do: the order of clips, duplicates, rejected rows and filters."""

import dataclasses
import math
import pathlib

import numpy as np
import pytest

from alp_jax.core.clip import Clip, Event, Rejected
from alp_jax.core.errors import UserError
from alp_jax.core.hashing import hash64
from alp_jax.data.building import plan, rows
from alp_jax.data.building.build import build
from alp_jax.data.building.filters import CaptionFilter
from alp_jax.data.store import ladder
from tests.data.building.clips import clip

pytestmark = pytest.mark.usefixtures("inline")


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
    monkeypatch.setattr(ladder, "id_hash", lambda clip_id: 7)
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


def test_rows_keep_the_types_of_a_clip():
    assert {field.name for field in dataclasses.fields(Clip)} <= set(rows.SCHEMA.names) | {"labels"}
