"""Parts of a build, made one by one and in any order, give the bytes of a single build."""

import pathlib

import pytest

from alp_jax.cli.main import main
from alp_jax.core.errors import DataError, UserError
from alp_jax.data.building import build as building
from alp_jax.data.building import shard
from alp_jax.data.building.build import build
from alp_jax.data.building.part import BuildPart
from tests.data.building.clips import clip, wav


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wav")
    made = [clip(i, audio_path=wav(folder / f"{i}.wav", 300 + 9 * i), captions=(f"tone {i}",)) for i in range(11)]
    return [*made, clip(11, audio_path=str(folder / "none.wav"), captions=("none",))]


def contents(folder):
    return {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir()}


@pytest.mark.usefixtures("inline")
def test_the_union_of_parts_is_the_single_build(clips, tmp_path):
    settings = {"source_name": "a", "shards": 7, "workers": 1, "max_bad_share": 0.5}
    build(clips, tmp_path / "one", **settings)
    out = tmp_path / "parts"
    told = [build(clips, out, part=BuildPart(number, 3), **settings) for number in (2, 1, 3)]
    assert told == [
        {"part": "2/3", "shards": 2, "written": 2, "left": 5},
        {"part": "1/3", "shards": 3, "written": 3, "left": 2},
        {"part": "3/3", "shards": 2, "written": 2, "left": 0},
    ]
    assert not (out / "dataset.json").exists()
    assert build(clips, out, part=BuildPart(1, 3), **settings)["written"] == 0  # resumed: nothing is left
    (out / ".part-2-of-3").mkdir()
    (out / ".part-2-of-3" / ".plan.spool").touch()  # of a part that was killed
    build(clips, out, **settings)
    assert contents(out) == contents(tmp_path / "one")


def test_a_part_touches_no_shard_of_another(clips, tmp_path, monkeypatch):
    seen = []

    def write(task, poisoned, started):
        seen.append(task.number)
        real(task, poisoned, started)

    def inline(tasks, workers, **watch):
        for task in tasks:
            write(task, {}, lambda number: None)
            yield task.clips

    real = shard.write
    monkeypatch.setattr(building.worker, "run", inline)
    build(clips, tmp_path / "set", source_name="a", shards=7, part=BuildPart(2, 3))
    assert seen == [1, 4]
    for number in (1, 3):
        build(clips, tmp_path / "set", source_name="a", shards=7, part=BuildPart(number, 3))
    assert sorted(seen) == list(range(7))
    with pytest.raises(UserError, match="a different build"):
        build(clips[:-1], tmp_path / "set", source_name="a", shards=7, part=BuildPart(1, 3))
    next((tmp_path / "set").glob("*.index")).unlink()
    planned = building.plan_build(clips, str(tmp_path / "set"), building.BuildSettings(shards=7))
    with pytest.raises(DataError, match="missing or damaged"):
        building.finish(planned, building.BuildSettings(shards=7), {}, 0.5)


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/0", "a/b", "1/2/3", "-1/3", "1/10001"])
def test_a_part_that_is_none_is_a_user_error(text):
    with pytest.raises(UserError, match=r"--part .*: give NUMBER/OF"):
        BuildPart.parse(text)


@pytest.mark.usefixtures("inline")
def test_parts_from_the_command_line(clips, tmp_path, capsys):
    lines = [f"{pathlib.Path(one.audio_path).name},{one.captions[0]},train" for one in clips[:-1]]
    (tmp_path / "captions.csv").write_text("\n".join(["path,caption,split", *lines, ""]))
    audio = str(pathlib.Path(clips[0].audio_path).parent)
    argv = ["data", "build", "folder", "--metadata", str(tmp_path / "captions.csv"), "--audio", audio, "--shards", "4"]
    assert main([*argv, "--out", str(tmp_path / "set"), "--part", "1/2"]) == 0
    assert (
        "part 1/2: 2 shards, 2 of them written now; 2 shards of other parts are not there yet"
        in capsys.readouterr().out
    )
    assert main([*argv, "--out", str(tmp_path / "set"), "--part", "2/2"]) == 0
    assert "all shards are there: the same command without --part makes" in capsys.readouterr().out
    assert main([*argv, "--out", str(tmp_path / "set")]) == 0
    assert main([*argv, "--out", str(tmp_path / "one")]) == 0
    assert contents(tmp_path / "set") == contents(tmp_path / "one")
    assert main([*argv, "--dry_run", "--part", "1/2"]) == 2
    assert "--part does not go with --dry_run" in capsys.readouterr().err


def test_a_store_that_cannot_be_listed_is_one_line(clips, monkeypatch, capsys):
    def names(folder):
        raise OSError(f"{folder}: the host did not answer")

    monkeypatch.setattr("alp_jax.core.storage.names", names)
    with pytest.raises(UserError, match="memory://m cannot be listed: memory://m: the host did not answer"):
        build(clips, "memory://m", source_name="a")
    assert main(["data", "build", "captionstew", "--root", "memory://r", "--dry_run"]) == 2
    assert capsys.readouterr().err == "alp: memory://r/audiocaps: the host did not answer\n"
