"""A tiny CaptionStew, from downloads to one data set: built at once, in parts, stopped and resumed, and added to."""

import json
import os
import pathlib
import shutil

import pytest

from alp_jax.cli.main import main
from alp_jax.corpora import captionstew, registry
from alp_jax.data.building import build as building
from alp_jax.data.building import staging
from alp_jax.data.store.dataset import open_dataset
from tests.corpora.stew import HEARD, LEAKED, plant
from tests.data.building.clips import run_inline

pytestmark = pytest.mark.usefixtures("inline")
STEW = ["data", "build", "captionstew", "--root"]


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    root = tmp_path_factory.mktemp("stew") / "downloads"
    return root, plant(root)


@pytest.fixture(scope="module")
def whole(downloads, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building.worker, "run", run_inline)
        assert main([*STEW, str(downloads[0]), "--out", str(out)]) == 0
    return out


@pytest.fixture
def unstaged(monkeypatch):
    """Rows of parquet are read where they lie, in this process; ``whole`` has laid them out first."""
    monkeypatch.setattr(staging, "_WORTH", 1000.0)


def contents(folder):
    """Every file, but the notes about the inputs of plans."""
    files = [path for path in pathlib.Path(folder).rglob("*") if path.is_file()]
    notes = pathlib.Path(folder) / "parts"
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.parent != notes}


def test_eight_downloads_become_one_data_set(downloads, whole):
    dataset = open_dataset(whole)
    assert dataset.verify()["clips"] == len(dataset) == sum(downloads[1].values()) == 42
    excluded = {dataset.id[row].as_py(): dataset.exclusions[code] for row, code in enumerate(dataset.excluded) if code}
    assert excluded == {
        f"wavcaps_audioset:{LEAKED}": "leak:recording",  # a test clip of AudioCaps
        f"wavcaps_freesound:{HEARD}": "leak:recording",  # blacklisted
    }  # but not 701, a training clip of Clotho that blacklist_exclude_all_ac.json names
    assert {entry["name"].split("/")[1] for entry in dataset.info["shards"]} == set(downloads[1])
    sets = {one["name"] for one in json.loads((whole / "audit.json").read_text())["sets"]}
    blacklists = {f"blacklist:blacklist_exclude_{name}.json" for name in ("test_ac", "ub8k_esc50_vggsound")}
    assert sets == {"valid", "test", *blacklists}
    record = dataset.read(dataset.id.to_pylist().index("wavcaps_soundbible:701"))
    assert (record.captions, record.num_samples) == (("SoundBible 701",), 19_200)  # from the second volume of a zip


@pytest.mark.usefixtures("unstaged")
def test_parts_of_every_corpus_give_the_same_bytes(downloads, whole, tmp_path, capsys):
    argv = [*STEW, str(downloads[0]), "--out", str(tmp_path / "set"), "--json"]
    for part in ("2/2", "1/2"):
        assert main([*argv, "--part", part]) == 0
        told = json.loads(capsys.readouterr().out)["parts"]
        assert set(told) == set(downloads[1])
    assert not any(one["left"] for one in told.values())
    assert not (tmp_path / "set" / "dataset.json").exists()
    assert main(argv) == 0
    assert contents(tmp_path / "set") == contents(whole)


@pytest.mark.usefixtures("unstaged")
def test_a_build_that_was_stopped_goes_on(downloads, whole, tmp_path, monkeypatch, capsys):
    wrote, read = [], []

    def run(tasks, workers, **watch):
        for task in tasks:
            if len(wrote) == 3:
                raise KeyboardInterrupt
            yield from run_inline([task], workers)
            wrote.append(task.path)

    def reading(name, *args, **options):
        read.append(name)
        return real(name, *args, **options)

    real = registry.read
    monkeypatch.setattr(building.worker, "run", run)
    monkeypatch.setattr(registry, "read", reading)
    argv = [*STEW, str(downloads[0]), "--out", str(tmp_path / "set")]
    assert main(argv) == 130
    assert len(read) == 8  # all plans come first
    first = list(wrote)
    monkeypatch.setattr(building.worker, "run", run_inline)
    before = {path: os.stat(path).st_mtime_ns for path in first}
    assert main(argv) == 0
    assert len(read) == 8  # and are taken as they are
    assert {path: os.stat(path).st_mtime_ns for path in first} == before
    assert contents(tmp_path / "set") == contents(whole)
    capsys.readouterr()
    assert main(argv) == 0  # complete: nothing is read, merged or audited
    assert len(read) == 8
    assert capsys.readouterr().err == ""


def test_what_is_missing_is_named_and_can_be_added_later(downloads, whole, tmp_path, capsys):
    root = tmp_path / "some"
    root.mkdir()
    for name in ("clotho", "musiccaps"):
        (root / name).symlink_to(downloads[0] / name)
    (root / "wavcaps" / "json_files").mkdir(parents=True)
    argv = [*STEW, str(root), "--out", str(tmp_path / "set")]
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert "6 of 8 corpora are missing: audiocaps (no folder" in said
    assert "wavcaps (no *_final.json in" in said
    assert said.count("\n") == 1
    assert main([*argv, "--only", "clotho", "musicaps"]) == 2
    assert "did you mean 'musiccaps'" in capsys.readouterr().err
    assert main([*argv, "--only", "clotho", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accounting"]["usable"] == downloads[1]["clotho"]
    assert main([*argv, "--allow_missing", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["accounting"]["usable"], len(told["missing"])) == (9, 6)
    assert open_dataset(tmp_path / "set").verify()["clips"] == 9
    assert main([*STEW, str(tmp_path / "nowhere"), "--out", str(tmp_path / "set"), "--allow_missing"]) == 2
    assert "8 of 8 corpora are missing" in capsys.readouterr().err


def test_files_that_came_later_are_seen(downloads, tmp_path, capsys):
    root = tmp_path / "downloads"
    shutil.copytree(downloads[0] / "musiccaps", root / "musiccaps")
    lost = next((root / "musiccaps" / "wav").iterdir())
    lost.rename(tmp_path / lost.name)
    argv = [*STEW, str(root), "--only", "musiccaps", "--out", str(tmp_path / "set")]
    assert main([*argv, "--max_bad_share", "0.1"]) == 44
    assert "1 of 4 clips are unusable (25.0%" in capsys.readouterr().err
    (tmp_path / lost.name).rename(lost)
    assert main(argv) == 2  # the folder of its audio has changed, so it was planned anew: other clips
    built = tmp_path / "set" / "parts" / "musiccaps"
    assert f"remove {built} to build musiccaps again" in capsys.readouterr().err
    shutil.rmtree(built)
    assert main([*argv, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accounting"]["usable"] == 4


def test_the_forecast_of_a_dry_run(downloads, tmp_path, capsys):
    root = tmp_path / "some"
    root.mkdir()
    (root / "clotho").symlink_to(downloads[0] / "clotho")
    assert main([*STEW, str(root), "--dry_run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    corpora = told["forecast"]["corpora"]
    assert corpora["clotho"]["clips"] == 5
    assert not corpora["clotho"]["published"]
    assert corpora["audiosetcaps"]["clips"] == 6_117_099
    assert 8 < corpora["audiosetcaps"]["core_hours"] < 80
    assert 0.8e12 < corpora["audiosetcaps"]["bytes"] < 1.5e12
    assert main([*STEW, str(root), "--dry_run", "--codec", "pcm", "--workers", "16"]) == 0
    text = capsys.readouterr().out
    assert "missing: wavcaps: no folder" in text
    assert "on 16 cores that is about" in text
    assert list(tmp_path.iterdir()) == [root]


def test_freesound_of_two_seconds_and_more_is_read_where_files_lie_side_by_side(tmp_path):
    for name in ("as_final.json", "fsd_final_2s.json"):
        path = tmp_path / "wavcaps" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    (found,), _ = captionstew.find(tmp_path, only=["wavcaps"])
    assert [path.rpartition("/")[2] for path in found.metadata] == ["as_final.json", "fsd_final_2s.json"]
