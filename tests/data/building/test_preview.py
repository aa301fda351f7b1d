"""What a build would do, told without decoding a sound."""

import json

import pytest

from alp_jax.cli.main import main
from alp_jax.core.clip import Rejected
from alp_jax.core.errors import UserError
from alp_jax.data.building.preview import preview
from alp_jax.data.building.settings import BuildSettings
from tests.data.building.clips import clip, wav

pytestmark = pytest.mark.usefixtures("inline")


def test_a_dry_run_gives_the_account_of_a_build_without_decoding(tmp_path, capsys):
    lines = ["id,file_name,caption,split,start,duration"]
    for i in range(6):
        wav(tmp_path / f"{i}.wav", 300 + i)
        lines.append(f"{i},{i}.wav,tone number {i},{'test' if i == 5 else 'train'},0,0.5")
    lines += ["0,0.wav,once more,train,0.1,0.4", "6,1.wav,one,train,0.1,0.4", "7,2.wav,too late,train,x,0.5"]
    lines += ["8,none.wav,not there,train,0,0.5"]
    (tmp_path / "captions.csv").write_text("\n".join(lines) + "\n")
    argv = ["data", "build", "folder", "--metadata", str(tmp_path / "captions.csv"), "--min_words", "2"]
    audio = ["--audio", str(tmp_path)]
    assert main([*argv, *audio, "--dry_run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["accounting"]
    assert main([*argv, *audio, "--out", str(tmp_path / "set"), "--max_bad_share", "0.5", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)["accounting"]
    assert (told["shards"], told["without_length"], told["dropped_captions"]) == (1, {}, {"too_few_words": 1})
    for entry in made["sources"].values():
        del entry["measured"]
    assert {key: told[key] for key in made} == made
    assert made["reasons"].keys() == {"bad_time", "duplicate_id", "filtered_captions", "missing"}
    assert main([*argv, "--dry_run"]) == 0
    text = capsys.readouterr().out
    assert "folder, metadata: 7 of 10 clips" in text  # whether files are there is not known
    assert "nothing was written" in text
    assert "core-hours" in text
    assert main([*argv, *audio, "--dry_run", "--out", "x"]) == 2
    assert "--out does not go with --dry_run" in capsys.readouterr().err
    assert main([*argv, *audio]) == 2
    assert "--out DIR is needed" in capsys.readouterr().err


def test_without_audio_only_stated_stretches_are_duplicates(tmp_path):
    same = {"recording": "r", "audio_path": "", "duration_s": 1.0}
    placed = {"recording_start_s": 3.0}
    clips = [clip(0, **same), clip(1, **same), clip(2, **same, **placed), clip(3, **same, **placed)]
    found = preview(clips, BuildSettings())
    assert (found["usable"], found["reasons"]["duplicate_stretch"]["count"]) == (3, 1)
    assert found["without_length"] == {}
    assert preview([clip(0, audio_path="")], BuildSettings())["without_length"] == {"a": 1}
    with pytest.raises(UserError, match="no clips to build from: 1 empty_caption"):
        preview([Rejected("a.csv row 3", "empty_caption")], BuildSettings())


def test_training_clips_without_a_caption_are_told(tmp_path, capsys):
    for i in range(3):
        wav(tmp_path / f"{i}.wav", 300 + i)
    (tmp_path / "captions.csv").write_text("path,caption,split\n0.wav,a tone,train\n1.wav,nan,train\n2.wav,NULL,test\n")
    argv = ["data", "build", "folder", "--metadata", str(tmp_path / "captions.csv"), "--audio", str(tmp_path)]
    assert main([*argv, "--dry_run"]) == 0
    assert "without a caption, and so not among the training pairs: 1 training clips\n" in capsys.readouterr().out
    assert main([*argv, "--dry_run", "--option", "ignore=x", "--option", "ignore=y"]) == 2
    assert "give each key once, as in ignore=COLUMN,COLUMN" in capsys.readouterr().err
