"""Corpora whose metadata or audio is parquet: ParaSpeechCaps and JamendoMaxCaps."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alp_jax.core.clip import Rejected
from alp_jax.core.errors import UserError
from alp_jax.corpora import registry

VIDEO = "21Uxsk56VDQ"


def read(corpus, *metadata, **settings):
    rows = list(registry.read(corpus, metadata, **settings))
    bad = [(row.where.rpartition("/")[2], row.reason) for row in rows if isinstance(row, Rejected)]
    return [row for row in rows if not isinstance(row, Rejected)], bad


SPEECH = [
    ("voxceleb", f"voxceleb2/dev/aac/id00012/{VIDEO}/00001_voicefixer.wav", ["A low voice."], ["low"], "id00012", "us"),
    ("Expresso", "audio_48khz/read/ex01/ex01_happy_00001.wav", ["Happy.", "Happy, fast."], ["happy"], "ex01", None),
    ("ears", "p001/emo_adoration.wav", ["Soft."], None, "p001", None),
    ("emilia", "EN/EN_B00030/EN_B00030_S01984/mp3/EN_B00030_S01984_W000037.mp3", ["Calm."], [], "EN_S01984", None),
    ("emilia", "../../etc/x.mp3", ["Calm."], [], "s", None),
    ("librivox", "a.wav", ["Calm."], [], "s", None),
    ("ears", "p001/empty.wav", [], None, "p001", None),
    ("ears", None, ["Soft."], None, "p001", None),
    ("voxceleb", "voxceleb1/short/1.wav", ["Soft."], None, "id1", None),
]


def speech_table(path, rows=SPEECH):
    names = ("source", "relative_audio_path", "text_description", "all_tags", "speakerid", "accent")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    texts = pa.list_(pa.string())
    kinds = {"text_description": texts, "all_tags": texts}
    table = {name: pa.array(column, kinds.get(name, pa.string())) for name, column in columns.items()}
    pq.write_table(pa.table(table | {"duration": pa.array([1.5] * len(rows)), "name": ["x"] * len(rows)}), path)
    return path


def test_paraspeechcaps(tmp_path):
    clips, bad = read("paraspeechcaps", speech_table(tmp_path / "train_base-00000-of-00001.parquet"))
    assert [(clip.recording, clip.recording_start_s) for clip in clips] == [
        (f"voxceleb:{VIDEO}", None),
        ("expresso:ex01_happy_00001", 0.0),
        ("ears:p001/emo_adoration", 0.0),
        ("emilia:EN_B00030_S01984", None),
    ]
    assert clips[0].labels == {"speaker": "voxceleb:id00012", "accent": "us"}
    assert {clip.stated_s for clip in clips} == {1.5}
    assert clips[1].captions == ("Happy.", "Happy, fast.")
    assert clips[2].labels == {"speaker": "ears:p001"}
    assert (clips[0].id, clips[0].tags, clips[0].audio_path) == (
        f"paraspeechcaps:voxceleb/{SPEECH[0][1]}",
        ("low",),
        "",
    )
    reasons = ["outside_folder", "bad_record", "empty_caption", "bad_record", "bad_id"]
    assert bad == [(f"train_base-00000-of-00001.parquet row {n}", reason) for n, reason in enumerate(reasons, 5)]


def test_paraspeechcaps_roots_and_splits(tmp_path):
    emilia = tmp_path / "disk2"
    emilia.mkdir()
    for name, split in (("train_scaled-1", "train"), ("dev-00000", "valid"), ("holdout-0", "test")):
        table = speech_table(tmp_path / f"{name}.parquet", SPEECH[:4])
        clips, _ = read("paraspeechcaps", table, audio=tmp_path, emilia_root=str(emilia))
        assert {clip.split for clip in clips} == {split}
    assert clips[0].audio_path == str(tmp_path / "voxceleb" / SPEECH[0][1])
    assert clips[3].audio_path == str(emilia / SPEECH[3][1])
    with pytest.raises(UserError, match="emilia_root=/no/such: no such folder"):
        read("paraspeechcaps", table, emilia_root="/no/such")


def test_paraspeechcaps_of_another_schema(tmp_path):
    path = tmp_path / "dev.parquet"
    pq.write_table(
        pa.table({"source": ["ears"], "audio_path": ["x"], "text_description": ["t"], "speakerid": ["s"]}), path
    )
    with pytest.raises(UserError, match=r"no column 'relative_audio_path'.*expected source, relative_audio_path"):
        read("paraspeechcaps", path)
    pq.write_table(
        pa.table({name: ["x"] for name in ("source", "relative_audio_path", "text_description", "speakerid")}), path
    )
    with pytest.raises(UserError, match="column 'text_description' is string, not a list of texts"):
        read("paraspeechcaps", path)


def jamendo(tmp_path, *records, name="final_caption30sec.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def stretch(track, start, end, caption="Calm piano."):
    return {"id": track, "caption": caption, "start_time": start, "end_time": end}


def test_jamendo_stretches_of_tracks_in_parquet(tmp_path):
    captions = jamendo(
        tmp_path, stretch("1100001", 0, 30), stretch("1100001", 30.0, 45.5), stretch(7, 0, 30), stretch(5, 0, 30)
    )
    info = {"tags": {"genres": ["jazz"], "instruments": ["piano", "jazz"], "vartags": []}, "speed": "low"}
    track = {"id": "1100001", "name": "x", "license_ccurl": "http://cc/by", "musicinfo": info}
    facts = jamendo(tmp_path, track, {"id": "2", "musicinfo": {}}, name="2008-01-01.jsonl")
    audio = tmp_path / "audio"
    (audio / "data").mkdir(parents=True)
    for name, tracks in (("a", ["5.mp3"]), ("b", [None, "1100001.mp3"])):
        column = pa.array([{"bytes": b"x", "path": path} for path in tracks])
        pq.write_table(pa.table({"audio": column}), audio / "data" / f"{name}.parquet")
    (audio / "7.mp3").touch()
    (audio / "5.mp3").touch()
    first, second, third, saved = read("jamendomaxcaps", facts, captions, audio=audio)[0]
    assert (first.id, first.audio_path, first.member) == (
        "jamendomaxcaps:1100001-0",
        str(audio / "data/b.parquet"),
        "1",
    )
    assert (second.id, second.start_s, second.duration_s) == ("jamendomaxcaps:1100001-30", 30.0, 15.5)
    assert (second.recording, second.recording_start_s, second.tags) == ("jamendo:1100001", 30.0, ("jazz", "piano"))
    assert second.license == "http://cc/by"
    assert (third.recording, third.audio_path, third.member) == ("jamendo:7", str(audio / "7.mp3"), "")
    assert (saved.audio_path, saved.member) == (str(audio / "5.mp3"), "")  # a file comes before a row
    assert read("jamendomaxcaps", captions)[0][0].audio_path == ""


def test_jamendo_rows_that_cannot_be_used(tmp_path):
    rows = [stretch("1", 0, 30, None), stretch("2", -5, 30), stretch("3", 30, 30), stretch("4", 0, None), {"id": "5"}]
    _, bad = read("jamendomaxcaps", jamendo(tmp_path, *rows))
    assert [reason for _, reason in bad] == ["empty_caption", "bad_time", "bad_time", "bad_time", "bad_time"]
    tracks = jamendo(tmp_path, {"id": "1", "musicinfo": {}}, name="2008-01-01.jsonl")
    with pytest.raises(UserError, match=r"give final_caption30sec.jsonl too"):
        read("jamendomaxcaps", tracks)


def test_jamendo_parquet_without_audio(tmp_path):
    captions = jamendo(tmp_path, stretch("1", 0, 30))
    pq.write_table(pa.table({"path": ["1.mp3"]}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"x.parquet: no column 'audio' with bytes and path, only path"):
        read("jamendomaxcaps", captions, audio=tmp_path)
