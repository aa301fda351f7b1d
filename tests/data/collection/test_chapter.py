"""The commands of docs/captionstew.md, as they are written there, in its order, on a tiny tree of downloads."""

import pathlib
import shutil

import pytest

from alp_jax.cli.main import main
from alp_jax.corpora import captionstew
from alp_jax.data.building.build import build
from alp_jax.data.store.dataset import open_dataset
from tests.corpora.stew import plant
from tests.data.building.clips import clip, wav
from tests.test_readme import commands, dry

ROOT = pathlib.Path(__file__).parents[3]
CHAPTER = (ROOT / "docs" / "captionstew.md").read_text()


@pytest.mark.usefixtures("inline")
def test_the_chapter_runs_from_its_first_command_to_its_last(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    plant(tmp_path / "downloads")
    heard = [clip(n, audio_path=wav(tmp_path / f"{n}.wav", 300 + 50 * n), split="test") for n in range(2)]
    build(heard, tmp_path / "data" / "benchmarks" / "fsd50k", source_name="fsd50k")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    written = commands(CHAPTER)
    assert len(written) == 11
    for command in written:
        assert main(dry(command) if command.startswith("alp launch") else command.split()[1:]) == 0, command
        assert capsys.readouterr().out.strip()
    assert len(open_dataset("data/captionstew")) == 42


def test_the_chapter_names_every_corpus_and_its_published_figures():
    for member in captionstew.MEMBERS:
        assert f"\n  {member.name}/ " in CHAPTER
        (row,) = [line for line in CHAPTER.splitlines() if line.startswith(f"| {member.name} |")]
        assert (f" {member.clips:,} |" if member.clips else " not published |") in row
        if member.clips:
            assert (f"| {member.hours:,.0f} |" if member.hours else "| not published |") in row
