"""A corpus of another distribution: one file, found through an entry point, goes all the way a published one goes."""

import importlib.metadata
import json
import sys
import textwrap
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from alp_jax.cli.main import main
from alp_jax.core.errors import UserError
from alp_jax.corpora import catalog, registry
from alp_jax.corpora.corpus import Corpus
from tests.data.sounds import coded, tone

TOY = '''
"""Bell recordings of a made-up publisher."""

from alp_jax.core.clip import Clip
from alp_jax.corpora import tables
from alp_jax.corpora.audio_files import AudioFiles
from alp_jax.corpora.corpus import Corpus, Option
from alp_jax.corpora.rows import captions, to_clips


def clips(metadata, audio=None, split=None, tower="north"):
    files = AudioFiles(audio)

    def clip(row):
        name, text, part = row
        own = f"bells:{tower}/{name}"
        return Clip(own, "bells", own, files.path([name]), captions=captions([text]), split=part, group=own)

    for path in metadata:
        yield from to_clips(f"{path} line", tables.csv_rows(path, ("name", "text", "part")), clip)


CORPUS = Corpus(
    name="bells",
    title="bells with captions",
    metadata="bells.csv",
    audio="one file per bell",
    read=clips,
    suffixes=(".csv",),
    options={"tower": Option("where they hang", "north", ("north", "south"))},
    official_split="bells.csv states the part of every bell",
)
'''


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Makes ``name=module:attribute`` texts the entry points of the group."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "alp_toy_bells.py").write_text(textwrap.dedent(TOY))

    def install(*entries):
        points = EntryPoints(
            EntryPoint(*text.split("=", 1), catalog.GROUP) for text in entries or ("bells=alp_toy_bells:CORPUS",)
        )
        everything = importlib.metadata.entry_points

        def entry_points(**wanted):
            return points if wanted == {"group": catalog.GROUP} else everything(**wanted)

        monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)

    yield install
    sys.modules.pop("alp_toy_bells", None)


def test_a_corpus_in_one_file_is_listed_built_verified_described_and_planned(installed, tmp_path, capsys):
    installed()
    rows = ["name,text,part"]
    (tmp_path / "audio").mkdir()
    for i in range(8):
        (tmp_path / "audio" / f"{i}.wav").write_bytes(coded(tone(0.5, 300 + 40 * i)))
        rows.append(f"{i},bell number {i} rings out,{'test' if i > 5 else 'train'}")
    (tmp_path / "bells.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(SystemExit):
        main(["data", "build", "--help"])
    assert "voxceleb, bells" in capsys.readouterr().out
    out, given = str(tmp_path / "set"), ["--metadata", str(tmp_path / "bells.csv")]
    argv = ["data", "build", "bells", *given, "--audio", str(tmp_path / "audio"), "--option", "tower=south"]
    assert main([*argv, "--out", out, "--json"]) == 0
    built = json.loads(capsys.readouterr().out)
    assert {split: row["clips"] for split, row in built["accounting"]["splits"].items()} == {"train": 6, "test": 2}
    assert main(["data", "verify", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clips"] == 8
    assert main(["data", "stats", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == 6
    assert main(["data", "plan", out, "bucket_seconds=1", "batch_seconds=2", "--steps", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rungs"]["all"]["sources"]["bells"]["pairs"] == 6
    assert main(["data", "captions", "--source", "bells", *given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["all"]["captions"] == 8
    held_out = (tmp_path / "bells.csv").rename(tmp_path / "test.csv")
    assert main(["data", "audit", out, "--against", f"bells:{held_out},tower=south", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["leaks"] == 6
    for wrong, problem in (
        (["--option", "towr=south"], "did you mean 'tower'"),
        (["--option", "tower=west"], "known: north, south"),
        (["--split", "test"], "bells.csv states the part of every bell: leave out --split"),
    ):
        assert main(["data", "build", "bells", "--metadata", str(held_out), *wrong, "--dry_run"]) == 2
        assert problem in capsys.readouterr().err
    assert main(["data", "build", "bels", "--dry_run"]) == 2
    assert "unknown corpus 'bels' (did you mean 'bells'?)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("entry", "name", "problem"),
    [
        ("clotho=alp_toy_bells:CORPUS", "clotho", "clashes with a built-in name"),
        ("bell=alp_toy_bells:CORPUS", "bell", "corpus 'bell' .* calls itself 'bells'"),
        ("bells=alp_toy_bells:clips", "bells", "expected a Corpus, not function"),
        ("bells=alp_toy_bells:NONE", "bells", "does not load: AttributeError"),
    ],
)
def test_an_entry_point_that_is_no_corpus_of_its_name_is_refused(installed, entry, name, problem):
    installed(entry)
    with pytest.raises(UserError, match=problem):
        registry.get(name)


@pytest.mark.parametrize("member", ["name", "title", "metadata", "read"])
def test_a_corpus_without_a_member_cannot_be_made(member):
    members = {"name": "bells", "title": "bells", "metadata": "bells.csv", "read": lambda *_: iter(())}
    Corpus(**members)
    with pytest.raises(UserError, match=f"does not state {member}|either read or download"):
        Corpus(**members | {member: None if member == "read" else ""})


def test_two_corpora_of_one_name_are_refused(tmp_path, monkeypatch):
    (tmp_path / "clotho.py").touch()
    monkeypatch.setattr(catalog.benchmarks, "__path__", [*catalog.benchmarks.__path__, str(tmp_path)])
    catalog.modules.cache_clear()
    try:
        with pytest.raises(UserError, match="two corpora are called 'clotho'"):
            registry.get("fsd50k")
    finally:
        monkeypatch.undo()
        catalog.modules.cache_clear()
