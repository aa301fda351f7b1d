"""Published evaluation sets: official splits, classes and groups, out of rows of the published form."""

import json

import pytest

from alp_jax.core.clip import Event
from tests.corpora.captioned.test_published import fails, read, write

A, B, C = "-abc_DEF012", "Zbcdefghijk", "Yabcdefghij"  # video ids
CORPORA = ("audioset_strong", "crema_d", "fsd50k", "magnatagatune", "nsynth", "vggsound", "voxceleb")


@pytest.mark.parametrize("corpus", CORPORA)
def test_a_split_of_ones_own_is_refused(tmp_path, corpus):
    path = write(tmp_path, "table.txt", "")
    fails("leave out --split", corpus, path, split="test")


def test_fsd50k(tmp_path):
    folder = tmp_path / "FSD50K.ground_truth"
    rows = '64760,"Bark,Dog",/m/1,train\n7,Rain,/m/2,val\n8,Rain,/m/2,test\n'
    write(folder, "dev.csv", "fname,labels,mids,split\n" + rows)
    write(folder, "eval.csv", 'fname,labels,mids\n37199,"Bark,Dog,Dog",/m/1\nx,Rain,/m/2\n9,"",/m/2\n')
    write(folder, "vocabulary.csv", "0,Bark,/m/1\n")
    file = write(tmp_path, "FSD50K.eval_audio/37199.wav", "")
    clips, bad = read("fsd50k", folder, audio=tmp_path)
    assert [(clip.recording, clip.split, clip.tags) for clip in clips] == [
        ("freesound:64760", "train", ("Bark", "Dog")),
        ("freesound:7", "valid", ("Rain",)),
        ("freesound:37199", "test", ("Bark", "Dog")),
    ]
    assert clips[2].audio_path == str(file)
    assert bad == [("dev.csv line 4", "bad_record"), ("eval.csv line 3", "bad_id"), ("eval.csv line 4", "bad_record")]
    fails("no column 'split' and no eval in its name", "fsd50k", write(tmp_path, "other.csv", "fname,labels\n"))


def test_vggsound_has_no_header(tmp_path):
    rows = f'{A},1,people marching,test\n{B},30,"dog, barking",train\n{C},0,rain,valid\nshort,1,a,test\n{A},1,x\n'
    clips, bad = read("vggsound", write(tmp_path, "vggsound.csv", rows))
    assert [(clip.id, clip.labels, clip.split) for clip in clips] == [
        (f"vggsound:{A}-1", {"vggsound": "people marching"}, "test"),
        (f"vggsound:{B}-30", {"vggsound": "dog, barking"}, "train"),
    ]
    assert [reason for _, reason in bad] == ["bad_record", "bad_id", "wrong_columns"]


def test_voxceleb_identifies_speakers_of_videos_that_were_not_trained_on(tmp_path):
    rows = f"1 id10001/{A}/00001.wav\n2 id10001/{A}/00002.wav\n3 id10001/{B}/00001.wav\n3 id10001/{A}/00003.wav\n"
    rows += f"4 id10001/{C}/00001.wav\n1 {C}/00001.wav\n"
    file = write(tmp_path, f"wav/id10001/{B}/00001.flac", "")
    as_published = write(tmp_path, f"dev/aac/id10001/{A}/00002.m4a", "")
    clips, bad = read("voxceleb", write(tmp_path, "iden_split.txt", rows), audio=tmp_path)
    assert [(clip.split, clip.labels, clip.recording) for clip in clips] == [
        ("train", {"voxceleb1": "id10001"}, f"voxceleb:{A}"),
        ("valid", {"voxceleb1": "id10001"}, f"voxceleb:{A}"),
        ("test", {"voxceleb1": "id10001"}, f"voxceleb:{B}"),
    ]
    assert [clip.audio_path for clip in clips[1:]] == [str(as_published), str(file)]
    assert clips[0].group != clips[1].group  # training and validation may share a video, as published
    assert [reason for _, reason in bad] == ["group_in_two_splits", "bad_record", "bad_id"]
    assert read("voxceleb", tmp_path / "iden_split.txt", version="2")[0][0].labels == {"voxceleb2": "id10001"}


def test_crema_d_is_split_by_actor(tmp_path):
    rows = "AudioWAV/1001_DFA_ANG_XX.wav,train\n1002_IEO_HAP_HI.wav,test\n1003_IEO_JOY_HI.wav,test\n"
    rows += "1004_IEO_SAD_LO,dev\n"
    clips, bad = read("crema_d", write(tmp_path, "split.csv", "file,split\n" + rows))
    assert [(clip.labels["crema_d"], clip.split, clip.group) for clip in clips] == [
        ("anger", "train", "crema_d:1001"),
        ("happy", "test", "crema_d:1002"),
        ("sad", "valid", "crema_d:1004"),
    ]
    assert [reason for _, reason in bad] == ["bad_id"]
    random = "file,split\n1001_DFA_ANG_XX.wav,train\n1001_IEO_HAP_HI.wav,test\n"
    fails("actor 1001 is in train and in test.*never at random", "crema_d", write(tmp_path, "random.csv", random))


def test_magnatagatune_takes_the_most_frequent_tags(tmp_path, monkeypatch):
    monkeypatch.setattr("alp_jax.corpora.benchmarks.magnatagatune.TOP", 2)
    rows = ['"clip_id"\t"rare"\t"slow"\t"guitar"\t"mp3_path"']
    for number, (tags, path) in enumerate(
        [
            ("0\t1\t1", "0/one-song-01-0-29.mp3"),
            ("1\t1\t0", "b/one-song-02-29-58.mp3"),
            ("0\t0\t1", "c/two-0-29.mp3"),
            ("0\t1\t1", "f/three-0-29.mp3"),
            ("0\t1\t1", "g/three-0-29.mp3"),
        ]
    ):
        rows.append(f'"{number}"\t{tags}\t"{path}"')
    table = write(tmp_path, "annotations_final.csv", "\n".join(rows) + "\n")
    write(tmp_path, "clip_info_final.csv", "clip_id\n")
    clips, bad = read("magnatagatune", tmp_path, audio=tmp_path)
    assert {clip.stated_s for clip in clips} == {29.0}
    assert [(clip.recording, clip.recording_start_s, clip.tags, clip.split) for clip in clips] == [
        ("magnatune:one-song-01", 0.0, ("slow", "guitar"), "train"),
        ("magnatune:one-song-02", 29.0, ("slow",), "train"),
        ("magnatune:two", 0.0, ("guitar",), "valid"),
        ("magnatune:three", 0.0, ("slow", "guitar"), "test"),
    ]
    assert clips[0].audio_path == str(tmp_path / "0" / "one-song-01-0-29.mp3")
    assert bad == [("annotations_final.csv line 6", "bad_id")]
    fails("no tab-separated column 'mp3_path'", "magnatagatune", write(tmp_path, "x/annotations_final.csv", "a,b\n"))
    assert table.exists()


def test_nsynth(tmp_path):
    def note(instrument, family):
        return {"instrument_str": instrument, "instrument_family_str": family, "pitch": 60}

    def folder(split, notes):
        return write(tmp_path, f"nsynth-{split}/examples.json", json.dumps(notes)).parent

    notes = {"bass_1-060-100": note("bass_1", "bass"), "flute_2-061": note("flute_2", "flute"), "no": 3}
    train = folder("train", notes)
    valid, test = (folder(split, {f"{split}-1": note("bass_9", "bass")}) for split in ("valid", "test"))
    file = write(tmp_path, "nsynth-test/audio/test-1.wav", "")
    clips, bad = read("nsynth", train, valid, test, audio=tmp_path)
    assert {clip.stated_s for clip in clips} == {4.0}
    assert [(clip.labels["nsynth_instrument"], clip.split) for clip in clips] == [
        ("bass", "train"), ("flute", "train"), ("bass", "valid"), ("bass", "test"),
    ]  # fmt: skip
    assert clips[3].audio_path == str(file)
    assert clips[2].group != clips[3].group  # they share instruments, as published
    assert bad == [("examples.json record 3", "bad_json")]
    fails("give the folders nsynth-train", "nsynth", tmp_path)
    cut_off = '{"a": {"instrument_str": "x", "instrument_family_str": "y"}'
    broken = write(tmp_path, "nsynth-valid/examples.json", cut_off)
    fails("is not JSON of the form.*after record 1", "nsynth", broken.parent)


def test_audioset_strong_joins_events(tmp_path):
    head = "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"
    rows = f"{A}_30000\t4.5\t6.0\t/m/1\n{B}_0\t0.0\t10.0\t/m/2\n{A}_30000\t0.5\t1.0\t/m/9\n"
    rows += f"{B}_0\t3.0\t3.0\t/m/2\nx\t0\t1\t/m/1\n"
    write(tmp_path, "audioset_eval_strong.tsv", head + rows)
    write(tmp_path, "mid_to_display_name.tsv", "/m/1\tBark\n/m/2\tRain, wind\n")
    clips, bad = read("audioset_strong", tmp_path)
    assert {clip.stated_s for clip in clips} == {10.0}
    assert [(clip.id, clip.split, clip.recording_start_s) for clip in clips] == [
        (f"audioset_strong:{A}_30000", "test", 30.0),
        (f"audioset_strong:{B}_0", "test", 0.0),
    ]
    assert clips[0].events == (Event(0.5, 1.0, "/m/9"), Event(4.5, 6.0, "Bark"))
    assert clips[1].events == (Event(0.0, 10.0, "Rain, wind"),)
    assert [reason for _, reason in bad] == ["bad_time", "bad_id"]
