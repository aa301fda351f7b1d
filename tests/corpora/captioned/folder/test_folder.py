"""Own folders: columns, quoting, defaults, rows that are rejected, and one-line errors about the table."""

import gzip
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
        (
            "path,caption,split\na.wav,x,fold1\n",
            "line 2",
            "bad_record",
            "split 'fold1' is not one of train (training), valid (val, validation, dev), test (eval, evaluation, hold",
        ),
        ("path,caption,start,end\na.wav,x,2,2\n", "line 2", "bad_time", "end 2 s is not after start 2 s"),
        ("path,caption,end\na.wav,x,-1\n", "line 2", "bad_time", "end is '-1'"),
        (
            "path,caption,start,end,duration\na.wav,x,1,3,1\n",
            "line 2",
            "bad_time",
            "duration is 1 s, but from start to end it is 2 s",
        ),
        (
            "path,caption\na.wav,\"['cut', 'short...\"\nb.wav,\"['a' 'b' ...]\"\n",
            "line 3",
            "bad_record",
            "printed list",
        ),
        ("path,caption,start\na.wav,x,soon\n", "line 2", "bad_time", "start is 'soon', not a number of seconds"),
        ("path,caption,duration\na.wav,x,-1\n", "line 2", "bad_time", "duration is '-1'"),
        ("path,caption,duration\na.wav,x,0\n", "line 2", "bad_time", "duration is 0"),
        ("path,caption\na.wav\n", "line 2", "wrong_columns", "1 cells, but the header has 2"),
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
        ("{\n", "bad_json"),
        ('{"path": "a.wav", "path": "b.wav"}\n', "bad_json"),
        ('{"path": "a.wav", "captions": [1]}\n', "bad_record"),
        ('{"path": ["a.wav"], "caption": ["x"]}\n', "bad_record"),
        ('{"path": "a.wav", "tags": {"x": 1}}\n', "bad_record"),
    ],
)
def test_lines_that_cannot_be_used(tmp_path, text, reason):
    rejects(tmp_path, text, "line 1", reason, "", "c.jsonl")


def test_an_object_without_a_file_costs_itself_unless_it_is_the_first(tmp_path):
    good, bare = ({"path": "a.wav", "caption": "x"}, {"caption": "y", "note": 1})
    rejects(tmp_path, "\n".join(map(json.dumps, (good, bare))), "line 2", "bad_record", "no file name", "c.jsonl")
    rejects(tmp_path, json.dumps([good, bare, good | {"path": "b.wav"}]), "record 2", "bad_record", "no file", "c.json")
    fails(tmp_path, json.dumps(bare) + "\n" + json.dumps(good), "line 1: no column for the file, only", "c.jsonl")


@pytest.mark.parametrize(
    ("text", "name", "match"),
    [
        (
            "fil,caption\na.wav,x\n",
            "c.csv",
            r"no column for the file, only 'fil', 'caption' \(did you mean 'file'\?\); expected file_name \(or path",
        ),
        ("caption\nx\n", "c.csv", "no column for the file, only 'caption'; expected file_name"),
        ("", "c.csv", "no column for the file; expected file_name"),
        ("[]\n", "c.jsonl", "has no rows"),
        ('[{"path": "a.wav"}]\n[{"path": "b.wav"}]\n', "c.jsonl", r"'\[' follows the list, after record 1"),
        ('{"a.wav": {"caption": "x"},\n"b.wav": {}}', "c.json", r"is one JSON object; give a list of them"),
        ("path,caption,Caption\na.wav,x,y\n", "c.csv", "two columns are called 'caption'; rename or remove one"),
        ("path;caption;text;text\n", "c.csv", "two columns are called 'text'"),
        ("path,caption\n", "c.csv", "has no rows"),
        ("x", "c.txt", r"must end in \.csv, \.tsv, .* or \.parquet, \.tar$"),
        ("x", "c.xlsx", r"\.tar: save it as CSV$"),
        ("x", "c.tar.gz", "gunzip it"),
    ],
)
def test_tables_of_another_form(tmp_path, text, name, match):
    with pytest.raises(UserError, match=match) as caught:
        read(tmp_path, text, name)
    assert "\n" not in str(caught.value)


def told(clips):
    return [(clip.id.partition(":")[2], clip.captions) for clip in clips]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.csv", 'file_name;caption\na.wav;"one; more, or less"\nb.wav;two\n'),
        ("c.csv", 'file_name\tcaption\na.wav\t"one; more, or less"\nb.wav\ttwo\n'),
        ("c.csv", "file_name|caption\na.wav|one; more, or less\nb.wav|two\n"),
        ("c.csv", 'sep=;\r\nfile_name;caption\r\na.wav;"one; more, or less"\r\nb.wav;two\r\n'),
        ("c.csv", '\ufeff\nFile Name,CAPTION\na.wav,"one; more, or less"\nb.wav,two\n'),
        ("c.csv", ',file_name,caption\n0,a.wav,"one; more, or less"\n1,b.wav,two\n'),
        ("c.csv", 'Unnamed: 0,audio_path,text\n0,a.wav,"one; more, or less"\n1,b.wav,two\n'),
        ("c.tsv", "filename\tsentence\na.wav\tone; more, or less\nb.wav\ttwo\n"),
        ("c.TSV.gz", "file\tdescription\na.wav\tone; more, or less\nb.wav\ttwo\n"),
        ("c.csv.gz", 'path,caption\na.wav,"one; more, or less"\nb.wav,two\n'),
        ("c.json", '[{"file_name": "a.wav", "caption": "one; more, or less"},\n {"path": "b.wav", "text": "two"}]'),
        ("c.jsonl", ' [ {"path": "a.wav", "caption": "one; more, or less"}, {"path": "b.wav", "text": "two"}]'),
        ("c.json", '{"path": "a.wav", "caption": "one; more, or less"}\n{"path": "b.wav", "text": "two"}\n'),
        ("c.jsonl.gz", '{"path": "a.wav", "caption_2": "one; more, or less"}\n{"path": "b.wav", "text": ["two"]}\n'),
    ],
)
def test_tables_in_the_forms_that_people_have(tmp_path, name, text):
    data = text.encode()
    clips = read(tmp_path, gzip.compress(data) if name.endswith(".gz") else data, name)
    assert told(clips) == [("a.wav", ("one; more, or less",)), ("b.wav", ("two",))]


def test_the_header_alone_tells_the_separator(tmp_path):
    assert told(read(tmp_path, "path,caption\na;b.wav,x;y;z\n")) == [("a;b.wav", ("x;y;z",))]


def test_columns_that_are_not_known_are_left_aside_by_name(tmp_path, capsys):
    text = "path,caption,text,speaker age\na.wav,x,hello,33\n"
    option = "--option 'ignore=text,speaker age'"
    fails(tmp_path, text, f"unknown columns 'text', 'speaker age'; to ignore them: {option}")
    fails(tmp_path, '{"path": "a.wav", "txt": "x"}', r"line 1: unknown column 'txt' \(did you mean 'text'", "c.jsonl")
    for ignore in ("text,speaker age", "*", " Text , SPEAKER_AGE"):
        assert told(read(tmp_path, text, ignore=ignore)) == [("a.wav", ("x",))]
        assert capsys.readouterr().err == f"{tmp_path / 'captions.csv'}: ignored: text, speaker age\n"
    assert told(read(tmp_path, text, ignore="caption,speaker age")) == [("a.wav", ("hello",))]


def test_an_index_that_pandas_wrote_is_left_aside_and_said_once(tmp_path, capsys):
    read(tmp_path, ",path,caption\n0,a.wav,x\n1,b.wav,y\n")
    assert capsys.readouterr().err.count("ignored: Unnamed: 0\n") == 1
    fails(tmp_path, "path,caption,\na.wav,x,\n", "unknown column 'Unnamed: 2'.*--option 'ignore=Unnamed: 2'")
    assert read(tmp_path, "path,caption,\na.wav,x,\n", ignore="Unnamed: 2")


def test_rows_of_one_stretch_are_one_clip_with_all_captions(tmp_path):
    text = (
        "path,caption,start,end,tags,label_x,license\n"
        "a.wav,one,,,p,,\nb.wav,other,,,,,\n./a.wav,two,0,,q;p,c,\na.wav,one,0.0,,,c,CC0\n"
        "a.wav,cut,1,2,,,\na.wav,cut two,1.0,2.0,,,\na.wav,bad,x,,,,\n"
    )
    clips = [row for row in read(tmp_path, text) if not isinstance(row, Rejected)]
    assert sorted(told(clips)) == [("a.wav", ("one", "two")), ("a.wav#1", ("cut", "cut two")), ("b.wav", ("other",))]
    whole = next(clip for clip in clips if clip.id == "folder:a.wav")
    assert (whole.tags, whole.labels, whole.license) == (("p", "q"), {"x": "c"}, "CC0")


def test_rows_of_one_file_in_several_tables_are_one_clip(tmp_path):
    (tmp_path / "audio").mkdir()
    for name, caption in (("a.csv", "one"), ("b.csv", "two")):
        (tmp_path / name).write_text(f"path,caption\na.wav,{caption}\n")
    clips = registry.read("folder", [tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "audio")
    assert told(clips) == [("a.wav", ("one", "two"))]


@pytest.mark.parametrize(
    ("column", "first", "second", "detail"),
    [
        ("label_mood", "sad", "glad", "label_mood is 'glad' here and 'sad' in"),
        ("recording", "r1", "r2", "recording is 'folder:r2' here and 'folder:r1' in"),
        ("license", "CC0", "BY", "license is 'BY' here and 'CC0' in"),
    ],
)
def test_rows_of_one_clip_must_not_contradict_each_other(tmp_path, column, first, second, detail):
    text = f"path,caption,{column}\na.wav,one,{first}\na.wav,two,{second}\na.wav,three,{first}\n"
    bad, clip = sorted(read(tmp_path, text), key=lambda row: not isinstance(row, Rejected))
    assert (bad.where, bad.reason) == (f"{tmp_path / 'captions.csv'} line 3", "contradiction")
    assert detail in bad.detail
    assert bad.detail.endswith("line 2")
    assert clip.captions == ("one", "three")


def test_cells_that_say_nothing(tmp_path):
    text = "path,caption_1,caption_2,tags,label_x,start,end\na.wav,nan,NULL,None,NaN,nan,<NA>\n"
    (clip,) = read(tmp_path, text)
    assert (clip.captions, clip.tags, clip.labels, clip.start_s, clip.duration_s) == ((), (), {}, 0.0, None)
    lines = '{"path": "a.wav", "captions": [null, NaN, "x", "nan"], "tags": NaN, "start": null, "split": null}'
    (clip,) = read(tmp_path, lines, "c.jsonl")
    assert (clip.captions, clip.tags, clip.split) == (("x",), (), "train")


@pytest.mark.parametrize("word", ["validation", "val", "Dev", " VALID "])
def test_splits_by_any_usual_word(tmp_path, word):
    (clip,) = read(tmp_path, f"path,caption,split\na.wav,x,{word}\n")
    assert clip.split == "valid"


@pytest.mark.parametrize(
    ("name", "split"), [("validation.csv", "valid"), ("my-test.csv", "test"), ("train_test.csv", "train")]
)
def test_a_table_named_for_a_split_is_that_split(tmp_path, name, split):
    rows = "path,caption,split\na.wav,x,\nb.wav,x,train\n"
    assert [clip.split for clip in read(tmp_path, rows, name)] == [split, "train"]
    assert [clip.split for clip in read(tmp_path, rows, name, split="valid")] == ["valid", "valid"]


COMPOSED, DECOMPOSED = "Caf\u00e9 M\u00fcller", "Cafe\u0301 Mu\u0308ller"


def test_a_name_in_another_unicode_form_is_found(tmp_path):
    file = tmp_path / "audio" / DECOMPOSED / f"{DECOMPOSED}.wav"
    file.parent.mkdir(parents=True)
    file.touch()
    text = f"path,caption\n{COMPOSED}/{COMPOSED}.wav,x\n{DECOMPOSED}/{DECOMPOSED}.wav,y\n{COMPOSED}.wav,z\n"
    clip, missing = sorted(read(tmp_path, text), key=lambda clip: clip.captions)
    assert (clip.audio_path, clip.captions) == (str(file), ("x", "y"))
    assert missing.audio_path == str(tmp_path / "audio" / f"{COMPOSED}.wav")
    (file.parent / "e\u0323\u0302.wav").touch()  # two orders of marks that are one letter
    (file.parent / "e\u0302\u0323.wav").touch()
    rejects(tmp_path, f"path,caption\n{COMPOSED}/\u1ec7.wav,x\n", "line 2", "ambiguous_audio", "after Unicode normal")
    exact = f"path,caption\n{COMPOSED}/e\u0302\u0323.wav,x\n"
    assert read(tmp_path, exact)[0].audio_path == str(file.parent / "e\u0302\u0323.wav")


def test_data_in_the_folder_of_audio_needs_no_metadata(tmp_path):
    (tmp_path / "metadata.csv").write_text("file_name,text\na.wav,x\n")
    for settings in ({"metadata": [], "audio": tmp_path}, {"metadata": [tmp_path]}):
        (clip,) = registry.read("folder", **settings)
        assert (clip.captions, clip.audio_path) == (("x",), str(tmp_path / "a.wav"))
    assert told(registry.read("folder", [tmp_path / "*.csv"])) == [("a.wav", ("x",))]
    with pytest.raises(UserError, match=r"no file matches .*\*\.tar"):
        registry.read("folder", [tmp_path / "*.tar"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"folder .*empty holds no \.csv, .* give the table with --metadata FILE"):
        list(registry.read("folder", [], tmp_path / "empty"))
    with pytest.raises(UserError, match="clotho needs --metadata"):
        registry.read("clotho", [], tmp_path)


def test_times_with_a_decimal_comma(tmp_path):
    (clip,) = read(tmp_path, "path;caption;start;end\na.wav;x;0,25;1,75\n")
    assert (clip.start_s, clip.duration_s) == (0.25, 1.5)
    rejects(tmp_path, 'path,caption,start\na.wav,x,"0,25"\n', "line 2", "bad_time", "start is '0,25'")


def test_quotes_between_tabs_may_mean_nothing(tmp_path):
    text = 'path\tcaption\na.wav\t"quoted" start\nb.wav\t"\u00f6ffnen\nc.wav\t"as ""written"" "\nd.wav\tplain\n'
    assert told(read(tmp_path, text, "c.tsv")) == [
        ("a.wav", ('"quoted" start',)),
        ("b.wav", ('"\u00f6ffnen',)),
        ("c.wav", ('as "written"',)),
        ("d.wav", ("plain",)),
    ]
