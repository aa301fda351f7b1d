"""Corpora in an object store give the clips, and the data set, that the same files on disk give."""

import dataclasses

import fsspec
import pytest

from alp_jax.cli.main import main
from alp_jax.core.clip import Rejected
from alp_jax.core.errors import UserError
from alp_jax.corpora import captionstew, objects
from alp_jax.corpora.audio_files import below
from alp_jax.corpora.rows import BadRow
from alp_jax.data.store.dataset import open_dataset
from tests.corpora.stew import plant
from tests.data.building.clips import run_inline

ROOT = "memory://bucket/downloads"


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    root = tmp_path_factory.mktemp("objects")
    plant(root)
    system = fsspec.filesystem("memory")
    system.put(f"{root}/", "/bucket/downloads", recursive=True)
    yield root
    system.rm("/bucket", recursive=True)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ALP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def clips_of(root, name):
    (found,), _ = captionstew.find(root, only=[name])
    rows = list(found.clips())
    assert not any(isinstance(row, Rejected) for row in rows)
    return [dataclasses.replace(row, audio_path=row.audio_path.removeprefix(str(root))) for row in rows]


@pytest.mark.parametrize("name", ["audiocaps", "clotho", "musiccaps", "audiosetcaps", "fusionaudio", "paraspeechcaps"])
def test_remote_files_give_the_same_clips(downloads, name):
    assert clips_of(ROOT, name) == clips_of(downloads, name)


def test_a_collection_is_built_from_a_bucket(downloads, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("alp_jax.data.building.worker.run", run_inline)
    for root, out in ((str(downloads), "disk"), (ROOT, "store")):
        argv = ["data", "build", "captionstew", "--root", root, "--out", str(tmp_path / out)]
        assert main([*argv, "--only", "audiocaps", "clotho", "paraspeechcaps"]) == 0
    assert open_dataset(tmp_path / "store").fingerprint == open_dataset(tmp_path / "disk").fingerprint
    capsys.readouterr()
    for name in ("wavcaps", "jamendomaxcaps"):  # audio in archives
        assert main([*argv, "--only", name]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert f"{ROOT}/{name}" in said
        assert "copy or mount it" in said


def test_a_copy_is_made_again_when_the_object_has_changed(downloads, cache):
    url = f"{ROOT}/musiccaps/musiccaps-public.csv"
    (first,) = objects.fetched(url, ())
    assert objects.fetched(url, ()) == [first]
    assert objects.fetched(f"{ROOT}/musiccaps/music*.csv", ()) == [first]
    assert objects.fetched(f"{ROOT}/musiccaps", (".csv",)) == [first]
    system = fsspec.filesystem("memory")
    system.pipe_file("/bucket/downloads/musiccaps/musiccaps-public.csv", b"other")
    (second,) = objects.fetched(url, ())
    assert (second.name, second.read_bytes()) == (first.name, b"other")
    (folder,) = objects.fetched(f"{ROOT}/wavcaps/json_files", ())
    assert len(list(folder.rglob("*.json"))) == 8
    system.pipe_file("/bucket/downloads/musiccaps/musiccaps-public.csv", first.read_bytes())


def test_what_cannot_be_reached_is_one_line(downloads):
    for url in (f"{ROOT}/nothing.csv", f"{ROOT}/x*.csv", f"{ROOT}/nothing"):
        with pytest.raises(UserError, match="does not exist"):
            objects.fetched(url, (".csv",))
    with pytest.raises(UserError, match=r"nosuch://x.*is not known"):
        captionstew.find("nosuch://x")
    assert below(ROOT, "a/../b.wav") == f"{ROOT}/b.wav"
    for name in ("../b.wav", "/etc/passwd", "a/../../b"):
        with pytest.raises(BadRow, match="outside_folder"):
            below(ROOT, name)
