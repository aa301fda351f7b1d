"""A built data set with leaks in it: found by kind, taken out of use, put back; planted leaks and their recall."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile

from alp_jax.cli.main import main
from alp_jax.core.clip import Clip
from alp_jax.core.errors import DataError
from alp_jax.data.audit import columns, sets
from alp_jax.data.audit.audit import audit, compare, exclude
from alp_jax.data.audit.planted import audit_planted
from alp_jax.data.building.build import build
from alp_jax.data.store.dataset import open_dataset

TESTS, TRAINING = 20, 8
LEAKS = {
    "mine:same-recording": "recording",
    "mine:same-samples": "audio",
    "mine:cut": "near",
    "mine:copied-captions": "caption",
}


@pytest.fixture(scope="session")
def leaky(tmp_path_factory, sound):
    """Clips 0 to 19 of the test split, and training clips of which four are LEAKS."""
    root = tmp_path_factory.mktemp("leaky")

    def write(name, wave):
        soundfile.write(root / f"{name}.wav", wave, 16000, subtype="PCM_16")
        return str(root / f"{name}.wav")

    def clip(name, wave, split, **fields):
        fields = {"recording": f"mine:{name}", "captions": (f"what {name} sounds like to me",)} | fields
        return Clip(id=f"mine:{name}", source="mine", audio_path=write(name, wave), split=split, group=name, **fields)

    clips = [
        clip(f"test-{i}", sound(i, 2.5), "test", captions=(f"somebody made sound number {i}", "a sound"), **place)
        for i in range(TESTS)
        for place in [{"recording": f"tube:{i}", "recording_start_s": 10.0}]
    ]
    clips += [clip(f"train-{i}", sound(100 + i, 2.5), "train") for i in range(TRAINING)]
    clips += [
        clip("same-recording", sound(200, 2.5), "train", recording="tube:3", recording_start_s=12.0),
        clip("other-stretch", sound(201, 2.5), "train", recording="tube:3", recording_start_s=14.0),
        clip("same-samples", sound(4, 2.5), "train"),
        clip("cut", sound(5, 2.5)[9000:33000] // 2, "train"),
        clip("copied-captions", sound(202, 2.5), "train", captions=("A sound.", "Somebody made SOUND number 6")),
    ]
    build(clips, root / "data", source_name="mine", codec="pcm", shards=2, workers=1)
    return root / "data"


@pytest.fixture
def copy_of(tmp_path):
    """Returns ``copy(folder)``, a data set of one's own to change."""

    def copy(folder):
        (tmp_path / "data").mkdir()
        for file in folder.iterdir():
            (tmp_path / "data" / file.name).write_bytes(file.read_bytes())
        return tmp_path / "data"

    return copy


def found_in(folder):
    dataset = open_dataset(folder)
    result = audit(dataset, sets.of_splits(dataset, ("valid", "test")))
    return {kind: sorted(table["id"].to_pylist()) for kind, table in result.matches.items()}


def exclusions_of(folder):
    dataset = open_dataset(folder)
    reasons = (dataset.exclusions[number] for number in dataset.excluded)
    return {name: reason for name, reason in zip(dataset.id.to_pylist(), reasons, strict=True) if reason}


def test_each_leak_is_found_as_what_it_is_and_nothing_else(leaky):
    assert found_in(leaky) == {
        "recording": ["mine:same-recording"],
        "audio": ["mine:same-samples"],
        "near": ["mine:cut", "mine:same-samples"],
        "caption": ["mine:copied-captions"],
    }


def test_excluded_leaks_leave_the_ladder_and_come_back(leaky, copy_of):
    folder = copy_of(leaky)
    before = open_dataset(folder)
    result = audit(before, sets.of_splits(before, ("test",)))
    assert exclude(before, result)["excluded"] == {f"leak:{kind}": 1 for kind in LEAKS.values()}
    after = open_dataset(folder)
    assert after.fingerprint != before.fingerprint
    assert exclusions_of(folder) == {name: f"leak:{kind}" for name, kind in LEAKS.items()}
    assert (after.ladder[after.excluded != after.exclusions.index("")] == -1).all()
    assert len(after.ladder_rows()) == len(before.ladder_rows()) - 4
    again = audit(after, sets.of_splits(after, ("test",)))
    assert again.already_excluded == 4
    assert {name: table.to_pydict() for name, table in again.matches.items()} == {
        name: table.to_pydict() for name, table in result.matches.items()
    }
    exclude(after, again)
    assert open_dataset(folder).fingerprint == after.fingerprint
    exclude(after, again, ["audio"], replace=True)
    assert exclusions_of(folder) == {"mine:same-samples": "leak:audio"}
    exclude(after, again, [], replace=True)
    assert open_dataset(folder).fingerprint == before.fingerprint


def test_the_command_writes_the_audit_and_excludes_chosen_kinds(leaky, copy_of, capsys):
    folder = copy_of(leaky)
    argv = ["data", "audit", str(folder), "--exclude", "--kinds", "audio", "near"]
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert "4 of 13 training clips are evaluation clips" in text
    assert "audio: mine mine:same-samples is mine:test-4" in text
    summary = json.loads((folder / "audit.json").read_text())
    assert summary["accounting"]["excluded"] == {"leak:audio": 1, "leak:near": 1}
    assert summary["sets"][0]["name"] == "test"
    assert "data" not in summary  # equal data sets have equal files
    assert summary["sets"][0]["found"] == {"recording": 1, "audio": 1, "near": 2, "caption": 1}
    assert main([*argv[:-1], "nearly"]) == 2
    assert "did you mean 'near'" in capsys.readouterr().err


def test_another_data_set_is_an_evaluation_set_by_split(leaky, copy_of, capsys):
    folder = str(copy_of(leaky))
    assert main(["data", "audit", folder, "--against", f"{leaky}:train", "--json"]) == 0
    (_, other) = json.loads(capsys.readouterr().out)["sets"]
    assert (other["name"], other["found"]["audio"]) == (f"{leaky}:train", 13)
    assert main(["data", "audit", folder, "--against", f"{leaky}:valid"]) == 2
    assert "has no clips in valid" in capsys.readouterr().err


def test_a_damaged_audit_table_is_named(leaky, copy_of):
    folder = copy_of(leaky)
    data = (folder / "audit.arrow").read_bytes()
    (folder / "audit.arrow").write_bytes(data[:-200] + bytes(200))
    with pytest.raises(DataError, match=r"audit\.arrow cannot be read"):
        found_in(folder)


def test_sound_without_landmarks_is_warned_of(leaky):
    dataset = open_dataset(leaky)
    (block,) = columns.of_dataset(dataset, dataset.rows("train"))
    (test,) = sets.of_splits(dataset, ("test",))
    silent = dataclasses.replace(block, fingerprint=columns.Ragged.of([[] for _ in range(len(block))], np.uint32))
    assert compare([block], [test]).warnings == []
    (line,) = compare([silent], [test]).warnings
    assert "none of 13 training clips with sound has landmarks" in line
    (line,) = compare([block], [dataclasses.replace(test, clips=silent)]).warnings
    assert "none of 13 evaluation clips" in line


def test_planted_leaks_are_found_and_the_others_left_alone(leaky):
    found = audit_planted(open_dataset(leaky), 20)
    for way, kind in (("renamed", "audio"), ("re_encoded", "near"), ("trimmed", "near"), ("gain", "near")):
        row = found["planted"][way]
        assert (row["clips"], row["found"], row["right"], row[kind]) == (4, 4, 4, 4), way
    assert found["planted"]["caption"]["caption"] == 4
    assert found["others"] == {"clips": 13, "found": 4, "recording": 1, "audio": 1, "near": 2, "caption": 1}


def test_more_leaks_than_test_clips_are_refused(leaky, capsys):
    assert main(["data", "audit", str(leaky), "--planted", "40"]) == 2
    assert "40 planted leaks" in capsys.readouterr().err


def test_nothing_to_compare_is_said(leaky):
    dataset = open_dataset(leaky)
    assert np.array_equal(dataset.rows("valid"), [])
    assert main(["data", "audit", str(leaky), "--kinds", "near"]) == 2


@pytest.fixture
def recordings(tmp_path, sound):
    """Arguments of ``alp data build`` for a folder in which the training clip a.wav is the test clip b.wav."""
    (tmp_path / "audio").mkdir()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        soundfile.write(tmp_path / "audio" / f"{name}.wav", sound(seed, 1.0), 16000, subtype="PCM_16")
    lines = ["file_name,caption,split", "a.wav,one,train", "b.wav,two,test", "c.wav,three,train"]
    (tmp_path / "captions.csv").write_text("\n".join(lines) + "\n")
    argv = ["data", "build", "folder", "--audio", str(tmp_path / "audio"), "--metadata", str(tmp_path / "captions.csv")]
    return [*argv, "--workers", "1", "--out", str(tmp_path / "out")]


@pytest.mark.parametrize(("flags", "used"), [([], 1), (["--keep_leaks"], 2)])
def test_a_build_leaves_leaks_out_unless_told_otherwise(recordings, flags, used, capsys):
    for _ in range(2):  # the second one finds everything done
        assert main([*recordings, *flags]) == 0
        assert "1 of 2 training clips are evaluation clips" in capsys.readouterr().out
        assert len(open_dataset(recordings[-1]).ladder_rows()) == used


def test_a_set_of_test_clips_alone_is_no_error(recordings, capsys):
    for _ in range(2):
        assert main([*recordings, "--split", "test"]) == 0
        text = capsys.readouterr().out
        assert "3 of 3 clips" in text
        assert "no training clips, so there is nothing to audit" in text
        assert "alp tokenizer" not in text
    assert len(open_dataset(recordings[-1]).rows("test")) == 3
    for flags in ([], ["--exclude"], ["--against", recordings[-1]]):
        assert main(["data", "audit", recordings[-1], *flags]) == 0
        assert "no training clips, so there is nothing to audit" in capsys.readouterr().out
    assert main(["data", "audit", recordings[-1], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["leaks"] == 0


def test_a_misspelt_evaluation_set_stops_a_build_before_it_starts(recordings, tmp_path, capsys):
    assert main([*recordings, "--against", "nowhere:test"]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
