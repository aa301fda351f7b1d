"""Parquet files as the HF datasets library writes them, and plain tables in parquet."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alp_jax.core.clip import Rejected
from alp_jax.core.errors import UserError
from alp_jax.corpora import registry
from alp_jax.data.audio.containers import MemberReader
from alp_jax.data.audio.errors import BadAudio

EMBEDDED = [{"bytes": b"RIFF%d" % n, "path": f"{n}.wav"} for n in range(4)]


def write(path, row_group_size=2, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


def read(*metadata, **settings):
    rows = list(registry.read("folder", metadata, **settings))
    return [row for row in rows if not isinstance(row, Rejected)], [row for row in rows if isinstance(row, Rejected)]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00002.parquet", "train"),
        ("validation-00000-of-00001.parquet", "valid"),
        ("test-0.parquet", "test"),
    ],
)
def test_rows_with_audio_inside(tmp_path, name, split):
    captions = ["one", ["two", "three"], None, "['four', 'five']"]
    path = write(
        tmp_path / "data" / name,
        audio=EMBEDDED,
        caption=[captions[0], "two", None, captions[3]],
        label_mood=["sad", None, "glad", "sad"],
        __index_level_0__=[4, 5, 6, 7],
    )
    clips, bad = read(path)
    assert not bad
    assert [(clip.id, clip.captions, clip.member) for clip in clips] == [
        (f"folder:data/{name}/row_0", ("one",), "0"),
        (f"folder:data/{name}/row_1", ("two",), "1"),
        (f"folder:data/{name}/row_2", (), "2"),
        (f"folder:data/{name}/row_3", ("four", "five"), "3"),
    ]
    assert {clip.split for clip in clips} == {split}
    assert clips[2].labels == {"mood": "glad"}
    assert [MemberReader().read(clip.audio_path, clip.member, 99)[0] for clip in clips] == [
        row["bytes"] for row in EMBEDDED
    ]
    assert [clip.id for clip in read(audio=tmp_path)[0]] == [clip.id for clip in clips]


def test_rows_that_name_a_file_are_looked_up_beside_the_table(tmp_path):
    rows = [
        EMBEDDED[0],
        {"bytes": None, "path": "b.wav"},
        {"bytes": None, "path": "b.wav"},
        {"bytes": None, "path": None},
    ]
    for size in (1, 2, 4):  # row groups of one kind, and mixed ones
        path = write(tmp_path / "x" / "a.parquet", size, audio=rows, text=["a", "b", "c", "d"])
        clips, bad = read(path)
        assert [(clip.audio_path, clip.member, clip.captions) for clip in clips] == [
            (str(path), "0", ("a",)),
            (str(tmp_path / "x" / "b.wav"), "", ("b", "c")),
        ]
        assert [(row.where, row.reason) for row in bad] == [(f"{path} row 4", "bad_id")]
        clips, _ = read(path, audio=tmp_path)
        assert clips[1].audio_path == str(tmp_path / "b.wav")


def test_audio_in_a_column_of_another_name_or_of_bytes(tmp_path):
    image = [{"bytes": b"PNG", "path": "x.png"}] * 4
    path = write(tmp_path / "a.parquet", speech=EMBEDDED, text=list("abcd"))
    clips, _ = read(path)
    assert MemberReader().read(clips[3].audio_path, clips[3].member, 99) == (b"RIFF3", ".wav")
    path = write(tmp_path / "b.parquet", audio=[row["bytes"] for row in EMBEDDED], text=list("abcd"))
    clips, _ = read(path)
    assert MemberReader().read(clips[2].audio_path, clips[2].member, 99) == (b"RIFF2", ".wav")
    with pytest.raises(BadAudio, match="corrupt"):
        MemberReader().read(clips[2].audio_path, "2:nothing", 99)
    path = write(tmp_path / "c.parquet", audio=EMBEDDED, image=image, text=list("abcd"))
    with pytest.raises(UserError, match="unknown column 'image'"):
        read(path)
    assert len(read(path, ignore="image")[0]) == 4
    path = write(tmp_path / "d.parquet", one=EMBEDDED, two=EMBEDDED, text=list("abcd"))
    with pytest.raises(UserError, match=r"d.parquet: audio in 'one' and 'two'; rename the one to use to 'audio'"):
        read(path)
    samples = [{"array": [0.0], "sampling_rate": 16000, "path": "x"}] * 4
    with pytest.raises(UserError, match="column 'audio' holds samples; write it with encoded bytes"):
        read(write(tmp_path / "e.parquet", audio=samples, text=list("abcd")))


def test_audio_alone(tmp_path):
    clips, _ = read(write(tmp_path / "a.parquet", audio=[row["bytes"] for row in EMBEDDED]))
    assert [clip.captions for clip in clips] == [()] * 4


def test_a_plain_table_in_parquet(tmp_path):
    path = write(
        tmp_path / "t.parquet",
        file_name=["a.wav", "a.wav", "b.wav"],
        captions=[["one", None], ["two"], ["three"]],
        id=[0, 0, 1],
        start=[0.0, 0.0, None],
    )
    clips, bad = read(path, audio=tmp_path)
    assert [(clip.id, clip.captions, clip.audio_path) for clip in clips] == [
        ("folder:0", ("one", "two"), str(tmp_path / "a.wav")),
        ("folder:1", ("three",), str(tmp_path / "b.wav")),
    ]
    assert not bad
    path = write(tmp_path / "u.parquet", file_name=["a.wav"], caption=[{"en": "x"}])
    with pytest.raises(UserError, match=r"column 'caption' is struct<en: string>, not text"):
        read(path)


def test_a_file_name_beside_audio_is_left_aside(tmp_path, capsys):
    for name in ("path", "file_name", "File"):
        path = tmp_path / "a.parquet"
        pq.write_table(pa.table({"audio": EMBEDDED, name: list("abcd"), "text": list("abcd")}), path)
        assert [clip.captions for clip in read(path)[0]] == [("a",), ("b",), ("c",), ("d",)]
        assert f"ignored: {name}\n" in capsys.readouterr().err
    path = write(tmp_path / "b.parquet", audio=EMBEDDED, file=list("abcd"), pth=list("abcd"))
    with pytest.raises(UserError, match="unknown column 'pth'"):
        read(path)
