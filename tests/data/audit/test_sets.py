"""Evaluation sets as users name them, blacklists as they are published, and overlaps that are known."""

import json

import pytest

from alp_jax.cli.main import main
from alp_jax.core.errors import UserError
from alp_jax.corpora import registry
from alp_jax.data.audit import known, sets
from alp_jax.data.audit.kinds import LEAK_KINDS
from alp_jax.data.audit.run import eval_sets

CAPTION = "A man speaks while water runs into a sink"


@pytest.fixture
def audiocaps(tmp_path):
    def write(name, *rows):
        path = tmp_path / name
        lines = [f"{i},{video},{start},{caption}" for i, (video, start, caption) in enumerate(rows)]
        path.write_text("audiocap_id,youtube_id,start_time,caption\n" + "\n".join(lines) + "\n")
        return path

    return write


def blacklist(tmp_path, content):
    path = tmp_path / "blacklist_exclude_test_ac.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_blacklists_name_recordings_and_the_sets_they_stand_for(tmp_path):
    found = sets.of_blacklist(
        blacklist(tmp_path, {"AudioSet": ["YvfY_TJq7n_U.wav", "nonsense"], "FreeSound": ["156", 17, "Not found"]})
    )
    assert found.clips.recording.to_pylist() == ["youtube:vfY_TJq7n_U", "freesound:156", "freesound:17"]
    assert found.rejected == {"bad_id": 2}
    assert {"audiocaps", "clotho"} <= set(found.covers)


@pytest.mark.parametrize("head", ["id\n", ""])
def test_a_table_of_freesound_ids_is_a_blacklist(tmp_path, head):
    path = tmp_path / "dcase2024_task6_excluded_freesound_ids.csv"
    path.write_text(f"{head}156\n17,x\n\nNot found\n")
    found = sets.of_blacklist(path)
    assert found.clips.recording.to_pylist() == ["freesound:156", "freesound:17"]
    assert found.rejected == {"bad_id": 1}
    assert "clotho" in found.covers
    path.write_bytes(b"\xff")
    with pytest.raises(UserError, match="excluded_freesound_ids"):
        sets.of_blacklist(path)


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"AudioSet": "Yabc.wav"}', '{"Sounds": []}', '{"AudioSet": []}', "not JSON"]
)
def test_other_files_are_no_blacklists(content, tmp_path):
    with pytest.raises(UserError, match=r"blacklist_exclude_test_ac\.json"):
        sets.of_blacklist(blacklist(tmp_path, content))


def test_metadata_is_audited_without_any_audio(audiocaps, tmp_path, capsys):
    rows = [("aaaaaaaaaaa", 30, "x"), ("bbbbbbbbbbb", 0, CAPTION), ("vfY_TJq7n_U", 0, "y"), ("ccccccccccc", 0, "z")]
    train = audiocaps("train.csv", *rows)
    test = audiocaps("test.csv", ("aaaaaaaaaaa", 35, "q"), ("ddddddddddd", 0, CAPTION), ("short", 0, "w"))
    listed = blacklist(tmp_path, {"AudioSet": ["YvfY_TJq7n_U.wav"]})
    argv = ["data", "audit", f"audiocaps:{train}", "--against", f"audiocaps:{test}", f"blacklist:{listed}"]
    assert main([*argv, "--json", "--out", str(tmp_path / "a.json")]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "a.json").read_text()) == summary
    assert summary["leaks"] == 3
    kinds = summary["sources"]["audiocaps"]["kinds"]
    assert (kinds["recording"]["clips"], kinds["caption"]["clips"]) == (2, 1)
    example = kinds["caption"]["examples"][0]
    assert example["train"] == "audiocaps:bbbbbbbbbbb-0"
    assert example["evaluation"] == "audiocaps:ddddddddddd-0"
    assert [one["found_by_any"] for one in summary["sets"]] == [2, 1]
    assert summary["sets"][0]["rejected"] == {"bad_id": 1}
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert "3 of 4 training clips are evaluation clips" in text
    assert "has no audio here" in text


def test_leaks_planted_among_metadata_are_found_by_recording_and_caption(audiocaps, tmp_path, capsys):
    train = audiocaps("train.csv", *((f"train{i:06}", 30, f"what training clip {i} sounds like") for i in range(9)))
    test = audiocaps("test.csv", *((f"test{i:07}", 20, f"how one may hear clip {i}") for i in range(9)))
    listed = blacklist(tmp_path, {"AudioSet": [f"Ytest{i:07}.wav" for i in range(9)]})
    argv = ["data", "audit", f"audiocaps:{train}", "--against", f"audiocaps:{test}", f"blacklist:{listed}"]
    assert main([*argv, "--planted", "12", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for way, kind in (("renamed", "recording"), ("shifted", "recording"), ("caption", "caption")):
        row = found["planted"][way]
        assert (row["clips"], row["found"], row["right"], row[kind]) == (4, 4, 4, 4), way
        assert sum(row[name] for name in LEAK_KINDS) == 4
    assert found["others"] == {"clips": 9, "found": 0} | dict.fromkeys(LEAK_KINDS, 0)
    assert main([*argv, "--planted", "12"]) == 0
    assert "no audio here" in capsys.readouterr().out
    assert main([*argv, "--planted", "60"]) == 2
    assert "60 planted leaks: the sets of --against have 18 clips, 9 of them captioned" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("against", "words"),
    [
        (["nowhere"], "data set nowhere does not exist"),
        (["nowhere:test"], "data set nowhere does not exist"),
        (["audiocaps:nowhere.csv"], "nowhere.csv"),
        (["audiocaps:"], "give the published files"),
        (["audiocap:test.csv"], "audiocap:test.csv"),
        (["blacklist:nowhere.json"], "nowhere.json"),
        ([], "--against SETS"),
    ],
)
def test_sets_that_cannot_be_read_are_named(against, words, audiocaps, capsys):
    train = audiocaps("train.csv", ("aaaaaaaaaaa", 30, "x"))
    against = ["--against", *against] if against else []
    assert main(["data", "audit", f"audiocaps:{train}", *against]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [(["--exclude"], "built data set"), (["--kinds", "near"], "--exclude"), (["--planted", "5"], "have 1 clips")],
)
def test_metadata_cannot_be_changed(flags, words, audiocaps, capsys):
    train = audiocaps("train.csv", ("aaaaaaaaaaa", 30, "x"))
    assert main(["data", "audit", f"audiocaps:{train}", "--against", f"audiocaps:{train}", *flags]) == 2
    assert words in capsys.readouterr().err


def test_options_of_a_corpus_and_urls_are_told_from_files(audiocaps):
    test = audiocaps("test.csv", ("aaaaaaaaaaa", 30, "x"))
    (eval_set,) = eval_sets([f"audiocaps:{test},version=2"], None, registry.read_spec)
    assert eval_set.clips.sources == ("audiocaps_v2",)
    for path in ("gs://bucket/data:test", "mini:test", "data/mini"):
        assert registry.read_spec(path, "test") is None


def test_a_table_that_states_splits_gives_its_test_clips_to_compare_with_and_its_training_clips_to_audit(
    tmp_path, capsys
):
    table = tmp_path / "vggsound.csv"
    same, other = "aaaaaaaaaaa", "bbbbbbbbbbb"
    table.write_text(f"{same},1,dog,train\n{same},2,dog,test\n{other},30,rain,train\nbad,3,dog,test\n")
    (eval_set,) = eval_sets([f"vggsound:{table}"], None, registry.read_spec)
    assert eval_set.clips.id.to_pylist() == [f"vggsound:{same}-2"]
    assert eval_set.rejected == {"bad_id": 1}
    assert main(["data", "audit", f"vggsound:{table}", "--against", f"vggsound:{table}", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["clips"], summary["leaks"]) == ({"vggsound": 2}, 1)
    table.write_text(f"{same},1,dog,train\n")
    assert main(["data", "audit", f"vggsound:{table}", "--against", f"vggsound:{table}"]) == 2
    assert f"vggsound:{table} has no valid or test clips: name a file that has them" in capsys.readouterr().err


def test_known_overlaps_warn_until_the_set_is_given():
    assert known.warnings(["mini-music"], []) == []
    lines = known.warnings(["wavcaps_freesound", "mini-music"], ["esc50", "urbansound8k", "fsd50k"])
    assert len(lines) == 1
    assert "wavcaps_freesound holds 89.0 % of Clotho" in lines[0]
    assert known.warnings(["wavcaps_audioset"], ["audiocaps_v2", "vggsound"]) == []


def test_a_stretch_that_comes_later_in_the_video_is_no_leak(tmp_path, capsys):
    video = "aaaaaaaaaaa"
    train = tmp_path / "YouTube-8M_AudioSetCaps_caption.csv"
    train.write_text(f"id,caption\n{video}_300_10,Drums.\n{video}_12_10,Bass.\nY{video},Song.\n")
    test = tmp_path / "musiccaps-public.csv"
    head = "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,is_balanced_subset,"
    test.write_text(f"{head}is_audioset_eval\n{video},5,15,/m/1,[],A song.,4,False,True\n")
    argv = ["data", "audit", f"audiosetcaps:{train}", "--against", f"musiccaps:{test}"]
    assert main([*argv, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["leaks"] == 2
    later = summary["sources"]["audiosetcaps_youtube8m"]
    assert later["kinds"]["recording"]["examples"] == [
        {"train": f"audiosetcaps:{video}_12_10", "evaluation": f"musiccaps:{video}-5", "set": f"musiccaps:{test}"}
    ]
    assert later["same_recording"]["examples"][0]["train"] == f"audiosetcaps:{video}_300_10"
    assert summary["sources"]["audiosetcaps_audioset"]["kinds"]["recording"]["clips"] == 1
    assert summary["without_length"] == {"training": 0, "evaluation": 0}
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert "same_recording: 1 training clips share a recording with an evaluation clip, at a different or" in text
    assert "state no length" not in text


def test_clips_that_state_no_length_are_told(tmp_path, capsys):
    for name in ("dev.csv", "eval.csv"):
        (tmp_path / name).write_text("fname,labels,mids,split\n7,Bark,m,train\n")
    argv = ["data", "audit", f"fsd50k:{tmp_path / 'dev.csv'}", "--against", f"fsd50k:{tmp_path / 'dev.csv'}"]
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert "1 training clips do not state their length: they are taken to last to the end of the recording" in text
