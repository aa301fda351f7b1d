"""Own folders: columns, quoting, defaults, and one-line errors that name the row."""

import json

import pytest

from alp_jax.core.errors import UserError
from alp_jax.corpora import folder


def read(tmp_path, text, name="captions.csv"):
    (tmp_path / "audio").mkdir(exist_ok=True)
    table = tmp_path / name
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder.clips(tmp_path / "audio", table)


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
    fails(tmp_path, f"path,caption\n{name},x\n", r"line 2: .* lies outside the audio folder")


def test_links_out_of_the_folder_are_refused(tmp_path):
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "link").symlink_to("/etc")
    fails(tmp_path, "path,caption\nlink/passwd,x\n", "lies outside")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("file,caption\na.wav,x\n", r"unknown column 'file'; expected file_name \(or path, audio\), caption"),
        ("caption\nx\n", "no column for the file; expected file_name"),
        ("path,caption\na.wav,x\na.wav,y\n", "id 'folder:a.wav' is in line 2 and in line 3"),
        ("path,caption,split\na.wav,x,dev\n", "line 2: split 'dev' is not one of train, valid, test"),
        ("path,caption,start\na.wav,x,soon\n", "line 2: start 'soon' is not a number of seconds"),
        ("path,caption,duration\na.wav,x,-1\n", "duration '-1'"),
        ("path,caption,duration\na.wav,x,0\n", "duration is 0"),
        ("path,caption\na.wav\n", "line 2 does not have 2 columns"),
        ("path,caption\na.wav,x,y\n", "line 2 does not have 2 columns"),
        ("path,caption\n,x\n", "the file name is empty"),
        ("path,caption\n", "has no rows"),
        (
            "path,caption,split,group\na.wav,x,train,g\nb.wav,x,test,g\n",
            "line 3: group 'g' is in test here and in train",
        ),
        (b"path,caption\na.wav,\xff\n", "not UTF-8"),
        ('path,caption\na.wav,"x\n', "is not CSV"),
    ],
)
def test_csv_mistakes_are_named(tmp_path, text, match):
    fails(tmp_path, text, match)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[]\n", "line 1 is not a JSON object"),
        ("{\n", "line 1 is not JSON"),
        ('{"path": "a.wav", "captions": [1]}\n', "captions must be text or a list of texts"),
        ('{"path": "a.wav", "text": "x"}\n', "unknown column 'text'"),
    ],
)
def test_jsonl_mistakes_are_named(tmp_path, text, match):
    fails(tmp_path, text, match, "c.jsonl")


def test_missing_table_folder_and_wrong_suffix(tmp_path):
    with pytest.raises(UserError, match=r"audio folder .* does not exist"):
        folder.clips(tmp_path / "none", tmp_path / "c.csv")
    with pytest.raises(UserError, match="cannot be read: No such file"):
        folder.clips(tmp_path, tmp_path / "c.csv")
    fails(tmp_path, "x", r"must end in \.csv or \.jsonl", "c.txt")
