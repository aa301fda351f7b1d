"""Published metadata of each corpus, in rows of the same shape: ids, recordings, captions, splits, and bad rows."""

import json

import pytest

from alp_jax.core.clip import Rejected
from alp_jax.core.errors import UserError
from alp_jax.corpora import registry
from alp_jax.data.building import account

A, B, Y = "-abc_DEF012", "Zbcdefghijk", "Yabcdefghij"  # video ids


def write(tmp_path, name, content):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(corpus, *metadata, **settings):
    """(clips, (where, reason) of rejected rows)"""
    rows = list(registry.read(corpus, metadata, **settings))
    bad = [(row.where.rpartition("/")[2], row.reason) for row in rows if isinstance(row, Rejected)]
    return [row for row in rows if not isinstance(row, Rejected)], bad


def fails(match, corpus, *metadata, **settings):
    with pytest.raises(UserError, match=match) as caught:
        read(corpus, *metadata, **settings)
    assert "\n" not in str(caught.value)


HEAD = "audiocap_id,youtube_id,start_time,caption\n"


def test_audiocaps_joins_the_captions_of_a_clip(tmp_path):
    rows = f"11,{A},30,One\n12,{B},0,Other\n13,{A},30,Two\n14,{A},30,One\n15,{A},40,Later\n"
    table = write(tmp_path, "val.csv", HEAD + rows)
    clips, bad = read("audiocaps", table)
    assert [(clip.id, clip.captions) for clip in clips] == [
        (f"audiocaps:{A}-30", ("One", "Two", "One")),  # repeated as published: retrieval counts every caption
        (f"audiocaps:{B}-0", ("Other",)),
        (f"audiocaps:{A}-40", ("Later",)),
    ]
    first = clips[0]
    assert (first.recording, first.recording_start_s, first.start_s, first.split) == (f"youtube:{A}", 30, 0, "valid")
    assert first.audio_path == ""
    assert not bad


def test_audiocaps_rows_that_cannot_be_used(tmp_path):
    rows = f'1,short,0,a\n2,{A},-1,a\n3,{A},soon,a\n4,{A},inf,a\n5,{A},0,"  "\n6,{A},0\n7,{A},10.5,ok\n'
    clips, bad = read("audiocaps", write(tmp_path, "train.csv", HEAD + rows))
    assert [clip.id for clip in clips] == [f"audiocaps:{A}-10.5"]
    reasons = ["bad_id", "bad_time", "bad_time", "bad_time", "empty_caption", "wrong_columns"]
    assert bad == [(f"train.csv line {line}", reason) for line, reason in enumerate(reasons, 2)]


def test_audiocaps_versions_have_sources_of_their_own(tmp_path, monkeypatch):
    table = write(tmp_path, "train.csv", HEAD + f"1,{A},0,a\n2,{B},0,b\n")
    monkeypatch.setattr("alp_jax.corpora.captioned.audiocaps._TRAIN_ROWS_V1", 1)
    fails("has 2 rows, but AudioCaps v1 has 1: give --option version=2", "audiocaps", table)
    clips, _ = read("audiocaps", table, version="2")
    assert {(clip.source, clip.id.partition(":")[0]) for clip in clips} == {("audiocaps_v2", "audiocaps_v2")}


@pytest.mark.parametrize(
    "name",
    [
        *("{0}_30.wav", "Y{0}_30.flac", "{0}_30_40.mp3", "Y{0}_30_40.wav", "{0}_000030.wav", "{0}_30000_40000.wav"),
        *("Y{0}_30.000_40.000.flac", "[{0}]-[30-40].wav", "{0}.OGG", "Y{0}.wav"),
    ],
)
def test_audio_of_youtube_clips_by_any_usual_name(tmp_path, name):
    table = write(tmp_path, "val.csv", HEAD + f"7,{A},30,a\n")
    file = write(tmp_path, f"audio/sub/{name.format(A)}", "")
    assert read("audiocaps", table, audio=tmp_path / "audio")[0][0].audio_path == str(file)


def test_the_name_with_the_time_comes_before_the_one_without(tmp_path):
    table = write(tmp_path, "val.csv", HEAD + f"7,{A},30,a\n8,{B},1,b\n")
    write(tmp_path, f"audio/{A}.wav", "")
    file = write(tmp_path, f"audio/x/{A}_30.wav", "")
    write(tmp_path, "audio/8.wav", "")
    clips, _ = read("audiocaps", table, audio=tmp_path / "audio")
    assert [clip.audio_path for clip in clips] == [str(file), str(tmp_path / "audio" / f"{B}_1.wav")]
    clips, _ = read("audiocaps", table, audio=tmp_path / "audio", names="audiocap_id")
    assert [clip.audio_path for clip in clips] == [str(tmp_path / "audio" / name) for name in ("7.wav", "8.wav")]


CLOTHO = "file_name," + ",".join(f"caption_{n}" for n in range(1, 6)) + "\n"


def test_clotho_with_its_metadata(tmp_path):
    captions = write(tmp_path, "clotho_captions_development.csv", CLOTHO + ' x y.wav,a,"b, c",a,d,e\nu.wav,a,,,,\n')
    other = write(tmp_path, "clotho_captions_evaluation.csv", CLOTHO + "u.wav,z,,,,\n.wav,a,b,c,d,e\n")
    head = b"file_name,keywords,sound_id,sound_link,start_end_samples,manufacturer,license\n"
    rows = b' x y.wav,dog;bark ;dog,1234,http,"[44100, 88200]",m\xfcller,CC0\nu.wav,k,Not found,,,,\n'
    facts = write(tmp_path, "clotho_metadata_development.csv", head + rows)  # Latin-1, as published
    audio = [write(tmp_path, f"audio/{name}", "") for name in ("development/ x y.wav", "evaluation/u.wav")]
    write(tmp_path, "audio/development/u.wav", "")
    clips, bad = read("clotho", facts, captions, other, audio=tmp_path / "audio")
    first, second, third = clips
    assert first.id == "clotho:train/ x y.wav"
    assert first.captions == ("a", "b, c", "a", "d", "e")
    assert (first.recording, first.recording_start_s, first.tags) == ("freesound:1234", 1.0, ("dog", "bark"))
    assert (first.license, first.audio_path) == ("CC0", str(audio[0]))
    assert (second.recording, second.recording_start_s) == ("clotho:train/u.wav", None)
    assert (third.recording, third.split, third.audio_path) == ("clotho:test/u.wav", "test", str(audio[1]))
    assert bad == [("clotho_captions_evaluation.csv line 3", "bad_id")]
    fails("no table of captions", "clotho", facts)


def test_the_split_comes_from_the_file_name_or_from_the_caller(tmp_path):
    names = {"clotho_captions_validation.csv": "valid", "dev.csv": "train", "test.csv": "test"}
    for name, split in names.items():
        path = write(tmp_path, name, CLOTHO + "u.wav,a,b,c,d,e\n")
        assert read("clotho", path)[0][0].split == split
    unknown = write(tmp_path, "clotho.csv", CLOTHO + "u.wav,a,b,c,d,e\n")
    fails("clotho.csv: the name tells no split; give --split train|valid|test", "clotho", unknown)
    assert read("clotho", unknown, split="test")[0][0].split == "test"
    fails("the name tells several splits", "clotho", write(tmp_path, "train_and_test.csv", CLOTHO))


def test_musiccaps(tmp_path):
    head = "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,is_balanced_subset,"
    rows = (
        f"{A},30,40,\"/m/1,/m/2\",\"['low', 'it''s slow']\",A song.,4,False,True\n"
        f"{B},0,10,/m/1,[],A song.,4,False,False\n"
        f"{B},10,10,/m/1,[],A song.,4,False,False\n"
        f"{B},20,30,/m/1,__import__('os'),A song.,4,False,False\n"
        f"{B},20,30,/m/1,[],A song.,4,False,maybe\n"
    )
    clips, bad = read("musiccaps", write(tmp_path, "musiccaps-public.csv", head + "is_audioset_eval\n" + rows))
    assert [(clip.id, clip.split, clip.recording_start_s) for clip in clips] == [
        (f"musiccaps:{A}-30", "test", 30.0),
        (f"musiccaps:{B}-0", "train", 0.0),
    ]
    assert clips[0].tags == ("low", "its slow")
    assert [reason for _, reason in bad] == ["bad_time", "bad_record", "bad_record"]


def wavcaps(tmp_path, name, *records):
    text = json.dumps({"num_captions_per_audio": 1, "data": list(records)})
    return write(tmp_path, name, text)


def test_wavcaps_sources_by_file_name(tmp_path):
    files = [
        wavcaps(tmp_path, "as_final.json", {"id": f"Y{A}.wav", "caption": "a", "duration": 10.0, "audio": "x"}),
        wavcaps(tmp_path, "bbc_final.json", {"id": "NHU0510.4021", "caption": "b", "duration": 67.6}),
        wavcaps(tmp_path, "fsd_final.json", {"id": "180913", "caption": "c", "tags": ["x", "y", "x"], "href": "/p"}),
        wavcaps(tmp_path, "sb_final.json", {"id": "2219", "caption": "d", "title": "t"}),
    ]
    clips, bad = read("wavcaps", *files)
    assert [(clip.source, clip.recording, clip.recording_start_s) for clip in clips] == [
        ("wavcaps_audioset", f"youtube:{A}", None),  # where the ten seconds lie in the video is not published
        ("wavcaps_bbc", "bbc:NHU0510.4021", 0.0),
        ("wavcaps_freesound", "freesound:180913", 0.0),
        ("wavcaps_soundbible", "soundbible:2219", 0.0),
    ]
    assert clips[2].tags == ("x", "y")
    assert {clip.split for clip in clips} == {"train"}
    assert not bad
    unnamed = wavcaps(tmp_path, "captions.json", {"id": "1", "caption": "d"})
    fails("does not tell the source; give --option part=audioset|bbc|freesound|soundbible", "wavcaps", unnamed)
    assert read("wavcaps", unnamed, part="soundbible")[0][0].recording == "soundbible:1"


def test_wavcaps_audio_of_another_source_is_not_taken(tmp_path):
    files = [wavcaps(tmp_path, f"{part}_final.json", {"id": "7", "caption": "x"}) for part in ("fsd", "sb")]
    found = write(tmp_path, "audio/FreeSound_flac/7.flac", "")
    clips, _ = read("wavcaps", *files, audio=tmp_path / "audio")
    assert [clip.audio_path for clip in clips] == [str(found), str(tmp_path / "audio" / "7.wav")]


def test_wavcaps_records_that_cannot_be_used(tmp_path):
    records = [{"id": "x7", "caption": "a"}, {"caption": "a"}, {"id": "7", "caption": " "}, {"id": "8", "caption": 3}]
    records += [{"id": "9", "caption": "\ud83d"}, {"id": "", "caption": "a"}, {"id": True, "caption": "a"}, "text"]
    clips, bad = read("wavcaps", wavcaps(tmp_path, "sb_final.json", *records))
    assert not clips
    reasons = ["bad_id", "bad_record", "empty_caption", "bad_record", "not_utf8", "bad_id", "bad_record", "bad_json"]
    assert bad == [(f"sb_final.json record {n}", reason) for n, reason in enumerate(reasons, 1)]


def test_audiosetcaps_sources_by_the_form_of_the_id(tmp_path):
    rows = f"Y{A},a\n{B}_000030,b\n{A}_12_10,c\n{Y}_0_10,d\nY{A}_1,e\n{B}_30,f\n"
    clips, bad = read("audiosetcaps", write(tmp_path, "AudioSetCaps_caption.csv", "id,caption\n" + rows))
    assert [(clip.source, clip.recording, clip.recording_start_s) for clip in clips] == [
        ("audiosetcaps_audioset", f"youtube:{A}", None),
        ("audiosetcaps_vggsound", f"youtube:{B}", 30.0),
        ("audiosetcaps_youtube8m", f"youtube:{A}", 12.0),
        ("audiosetcaps_youtube8m", f"youtube:{Y}", 0.0),
    ]
    assert [reason for _, reason in bad] == ["bad_id", "bad_id"]
    assert len({clip.id for clip in clips}) == 4


def test_fusionaudio_takes_the_captioning_records(tmp_path):
    record = {"instruction": "Q", "input": "", "dataset": "AudioSet", "task": "audio captioning", "output": "text"}
    records = [record | {"audio_id": f"/x/{A}.wav"}, record | {"audio_id": f"C:\\x\\Y{B}.flac"}]
    records += [record | {"audio_id": f"{A}.wav", "task": "Open-ended questions"}, record | {"audio_id": "bird.wav"}]
    plain = write(tmp_path, "fusion.json", json.dumps(records))
    lines = write(tmp_path, "fusion.jsonl", "\n".join(map(json.dumps, records)))
    for path, unit in ((plain, "record"), (lines, "line")):
        clips, bad = read("fusionaudio", path)
        assert [(clip.id, clip.recording) for clip in clips] == [
            (f"fusionaudio:{video}", f"youtube:{video}") for video in (A, B)
        ]
        assert bad == [(f"{path.name} {unit} 3", "other_task"), (f"{path.name} {unit} 4", "bad_id")]


def test_other_columns_are_a_user_error_that_names_the_expected_ones(tmp_path):
    table = write(tmp_path, "train.csv", "id,text\n1,a\n")
    fails("expected youtube_id, start_time, caption, audiocap_id", "audiocaps", table)
    fails("expected file_name, caption_1", "clotho", table)
    fails("expected ytid, start_s, end_s, aspect_list, caption", "musiccaps", table)
    fails("no column 'caption'.*expected id, caption", "audiosetcaps", table)
    fails("is not JSON of the form", "wavcaps", table, part="bbc")
    fails("is not JSON of the form", "fusionaudio", table)
    fails("cannot be read as parquet", "paraspeechcaps", table)


def test_records_of_other_tasks_are_no_sign_of_bad_data():
    counts = {"other_task": 5, "bad_id": 2}
    assert account.bad({"reasons": {reason: {"count": count} for reason, count in counts.items()}}) == 2


def test_published_lengths_are_kept_and_cut_nothing(tmp_path):
    head = "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,is_balanced_subset,"
    facts = "file_name,keywords,sound_id,sound_link,start_end_samples,manufacturer,license\n"
    published = [
        ("audiocaps", [write(tmp_path, "val.csv", HEAD + f"1,{A},30,x\n")], [10.0]),
        (
            "audiosetcaps",
            [write(tmp_path, "c.csv", f"id,caption\nY{A},a\n{A}_000030,b\n{A}_12_8.5,c\n")],
            [10, 10, 8.5],
        ),
        (
            "clotho",
            [
                write(tmp_path, "clotho_captions_evaluation.csv", CLOTHO + "u.wav,a,,,,\nv.wav,b,,,,\n"),
                write(tmp_path, "clotho_metadata_evaluation.csv", facts + 'u.wav,k,7,h,"[44100, 88200]",m,CC0\n'),
            ],
            [1.0, None],
        ),
        (
            "musiccaps",
            [write(tmp_path, "m.csv", head + f"is_audioset_eval\n{A},30,40,/m/1,[],A song.,4,False,True\n")],
            [10.0],
        ),
        (
            "fusionaudio",
            [write(tmp_path, "f.json", json.dumps([{"audio_id": f"Y{A}.wav", "task": "caption", "output": "x"}]))],
            [10.0],
        ),
        (
            "wavcaps",
            [
                wavcaps(
                    tmp_path,
                    "sb_final.json",
                    *({"id": str(n), "caption": "x", "duration": d} for n, d in enumerate((67.6, "3", None, 0, "?"))),
                )
            ],
            [67.6, 3.0, None, None, None],
        ),
        ("vggsound", [write(tmp_path, "vggsound.csv", f"{A},30,dog,train\n")], [10.0]),
    ]
    for corpus, files, lengths in published:
        clips, bad = read(corpus, *files)
        assert [(clip.stated_s, clip.known_s, clip.duration_s) for clip in clips] == [(s, s, None) for s in lengths]
        assert not bad


def test_wavcaps_as_it_is_published_and_as_it_unzips(tmp_path, capsys):
    tree = {
        "AudioSet_SL/as_final.json": f"Y{A}.wav",
        "BBC_Sound_Effects/bbc_final.json": "NHU0510",
        "FreeSound/fsd_final.json": "7",
        "FreeSound/fsd_final_2s.json": "7",
        "SoundBible/sb_final.json": "7",
    }
    for name, own in tree.items():
        wavcaps(tmp_path, f"json_files/{name}", {"id": own, "caption": "x", "duration": 3.5})
    write(tmp_path, "json_files/blacklist/blacklist_exclude_test_ac.json", '{"FreeSound": []}')
    stray = "mnt/fast/nobackup/scratch/WavCaps"  # folders that the zip files have inside
    names = ("AudioSet_SL_flac/Y{0}.flac", "BBC_Sound_Effects_flac/NHU0510.flac", "FreeSound_flac/7.flac")
    files = [write(tmp_path, f"audio/{stray}/{name.format(A)}", "") for name in (*names, "SoundBible_flac/7.flac")]
    clips, bad = read("wavcaps", tmp_path / "json_files", audio=tmp_path / "audio")
    assert [(clip.source, clip.audio_path, clip.stated_s) for clip in clips] == [
        (f"wavcaps_{source}", str(file), 3.5)
        for source, file in zip(("audioset", "bbc", "freesound", "soundbible"), files, strict=True)
    ]
    assert not bad
    longer = tmp_path / "json_files/FreeSound/fsd_final_2s.json"
    assert capsys.readouterr().err == f"{longer}: ignored, since fsd_final.json has all its sounds\n"
    assert [clip.id for clip in read("wavcaps", longer)[0]] == ["wavcaps_freesound:7"]
    fails("audio holds no _final.json or _final_2s.json file", "wavcaps", tmp_path / "audio")
