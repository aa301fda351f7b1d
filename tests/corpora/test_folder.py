"""Own folders: columns, quoting, defaults, rows that are rejected, and one-line errors about the table."""

import json

import pytest

from alp_jax.core.clip import Rejected
from alp_jax.core.errors import UserError
from alp_jax.corpora import registry


def read(tmp_path, text, name="captions.csv", **settings):
    (tmp_path / "audio").mkdir(exist_ok=True)
    table = tmp_path / name
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(registry.read("folder", [table], **{"audio": tmp_path / "audio", **settings}))


def rejects(tmp_path, text, where, reason, detail, name="captions.csv"):
    bad = [row for row in read(tmp_path, text, name) if isinstance(row, Rejected)]
    assert [(row.where, row.reason) for row in bad] == [(f"{tmp_path / name} {where}", reason)]
    assert detail in bad[0].detail


def fails(tmp_path, text, match, name="captions.csv"):
    with pytest.raises(UserError, match=match) as caught:
        read(tmp_path, text, name)
    assert "\n" not in str(caught.value)


def test_csv_with_everything(tmp_path):
    text = (
        "\ufefffile_name,caption_1,caption_2,split,tags,start,duration,label_genre,group,recording,license\r\n"
        'a/b.wav,"A dog, barking\nloudly","It says ""hi""",test,dog; bark ;,1.5,2,rock,g1,r1,CC0\r\n'
    )
    (clip,) = read(tmp_path, text)
    assert clip.id == "folder:a/b.wav#1.5"
    assert clip.captions == ("A dog, barking loudly", 'It says "hi"')
    assert clip.audio_path == str(tmp_path / "audio" / "a" / "b.wav")
    assert (clip.start_s, clip.duration_s, clip.split, clip.tags) == (1.5, 2.0, "test", ("dog", "bark"))
    assert (clip.labels, clip.group, clip.recording, clip.license) == ({"genre": "rock"}, "g1", "folder:r1", "CC0")


def test_defaults(tmp_path):
    (clip,) = read(tmp_path, "path,caption\na.wav,hello\n")
    assert (clip.split, clip.start_s, clip.duration_s, clip.tags, clip.labels) == ("train", 0.0, None, (), {})
    assert (clip.recording, clip.group, clip.source) == ("folder:a.wav", "a.wav", "folder")


def test_jsonl_is_the_same_as_csv(tmp_path):
    row = {"audio": "a.wav", "captions": ["one", "two", "one"], "tags": ["x", "y"], "start": 3, "label_t": "c"}
    (clip,) = read(tmp_path, json.dumps(row) + "\n\n", "c.jsonl")
    (same,) = read(tmp_path, "audio,caption_1,caption_2,tags,start,label_t\na.wav,one,two,x;y,3,c\n")
    assert clip == same


def test_cuts_of_one_file_share_the_recording(tmp_path):
    first, second = read(tmp_path, "path,caption,start,duration\na.wav,x,0,5\na.wav,y,5,5\n")
    assert first.recording == second.recording
    assert first.id != second.id


@pytest.mark.parametrize("name", ["../x.wav", "/etc/passwd", "a/../../x.wav"])
def test_paths_stay_inside(tmp_path, name):
    rejects(tmp_path, f"path,caption\n{name},x\n", "line 2", "outside_folder", "lies outside")


def test_links_out_of_the_folder_are_refused(tmp_path):
    (tmp_path / "audio" / "in").mkdir(parents=True)
    (tmp_path / "audio" / "link").symlink_to("/etc")
    (tmp_path / "audio" / "file").symlink_to("/etc/passwd")
    (tmp_path / "audio" / "in" / "side").symlink_to(tmp_path / "audio" / "in")
    for name in ("link/passwd", "file"):
        rejects(tmp_path, f"path,caption\n{name},x\n", "line 2", "outside_folder", "lies outside")
    (clip,) = read(tmp_path, "path,caption\nin/side/a.wav,x\n")
    assert clip.recording == "folder:in/side/a.wav"


def test_without_audio_and_with_settings(tmp_path):
    (clip,) = read(tmp_path, "path,caption\na/b.wav,x\n", audio=None, split="valid", source="mine")
    assert (clip.id, clip.audio_path, clip.split, clip.source) == ("mine:a/b.wav", "", "valid", "mine")


@pytest.mark.parametrize(
    ("text", "where", "reason", "detail"),
    [
        ("path,caption,split\na.wav,x,dev\n", "line 2", "bad_record", "split 'dev' is not one of train, valid, test"),
        ("path,caption,start\na.wav,x,soon\n", "line 2", "bad_time", "start is 'soon', not a number of seconds"),
        ("path,caption,duration\na.wav,x,-1\n", "line 2", "bad_time", "duration is '-1'"),
        ("path,caption,duration\na.wav,x,0\n", "line 2", "bad_time", "duration is 0"),
        ("path,caption\na.wav\n", "line 2", "wrong_columns", "1 cells, the header has 2"),
        ("path,caption\na.wav,x,y\n", "line 2", "wrong_columns", "3 cells"),
        ("path,caption\n,x\n", "line 2", "bad_id", "file name ''"),
        (b"path,caption\na.wav,\xff\n", "line 2", "not_utf8", "0xFF"),
        ('path,caption\na.wav,"x\n', "line 2", "bad_csv", ""),
        (
            "path,caption,split,group\na.wav,x,train,g\nb.wav,x,test,g\n",
            "line 3",
            "group_in_two_splits",
            "'g' is in test",
        ),
    ],
)
def test_rows_that_cannot_be_used(tmp_path, text, where, reason, detail):
    rejects(tmp_path, text, where, reason, detail)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]\n", "bad_json"),
        ("{\n", "bad_json"),
        ('{"path": "a.wav", "captions": [1]}\n', "bad_record"),
        ('{"path": "a.wav", "tags": {"x": 1}}\n', "bad_record"),
    ],
)
def test_lines_that_cannot_be_used(tmp_path, text, reason):
    rejects(tmp_path, text, "line 1", reason, "", "c.jsonl")


@pytest.mark.parametrize(
    ("text", "name", "match"),
    [
        ("file,caption\na.wav,x\n", "c.csv", r"unknown column 'file'; expected file_name \(or path, audio\), caption"),
        ("caption\nx\n", "c.csv", "no column for the file; expected file_name"),
        ("path,caption\n", "c.csv", "has no rows"),
        ('{"path": "a.wav", "text": "x"}\n', "c.jsonl", "line 1: unknown column 'text'"),
        ("x", "c.txt", r"must end in \.csv or \.jsonl"),
    ],
)
def test_tables_of_another_form(tmp_path, text, name, match):
    with pytest.raises(UserError, match=match) as caught:
        read(tmp_path, text, name)
    assert "\n" not in str(caught.value)
