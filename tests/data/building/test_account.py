"""The account of a build: every clip is stored or said why not, and of equal sounds one is used."""

import math

import numpy as np
import pyarrow as pa
import pytest

from alp_jax.core import files
from alp_jax.core.clip import Rejected
from alp_jax.core.errors import DataError
from alp_jax.core.hashing import hash64
from alp_jax.data.building import shard
from alp_jax.data.building.build import build
from alp_jax.data.building.merge import merge
from alp_jax.data.store import ladder
from alp_jax.data.store.dataset import open_dataset
from alp_jax.data.text.normalise import normalise
from tests.data.building.clips import clip, wav

pytestmark = pytest.mark.usefixtures("inline")


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
