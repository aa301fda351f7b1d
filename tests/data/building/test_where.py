"""Where a data set is built: its own or an empty folder, or a URL."""

import dataclasses

import numpy as np
import pytest

from alp_jax.core import storage
from alp_jax.core.errors import UserError
from alp_jax.data.building import tables
from alp_jax.data.building.build import build
from alp_jax.data.building.merge import merge
from alp_jax.data.store.dataset import open_dataset
from tests.data.building.clips import clip, wav

pytestmark = pytest.mark.usefixtures("inline")


def test_only_its_own_or_an_empty_folder_is_taken(tmp_path):
    clips = [clip(i, audio_path=wav(tmp_path / f"{i}.wav", 300 + i)) for i in range(3)]
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        build(clips, tmp_path / "file", source_name="x")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / ".plan.spool").write_text("of a build that was killed while it read the metadata")

    def breaks():
        yield clips[0]
        raise UserError("captions.csv header: no column for the file")

    with pytest.raises(UserError, match="no column"):
        build(breaks(), tmp_path / "new", source_name="x")
    assert not (tmp_path / "new").exists()
    build(clips, tmp_path / "set", source_name="x", shards=9)
    names = {p.name for p in (tmp_path / "set").iterdir()}
    shards = {f"clips-0000{s}-of-00003.tfrecord{end}" for s in range(3) for end in ("", ".index")}
    assert names == shards | {"dataset.json", "index.arrow", "audit.arrow"}


def test_a_data_set_is_built_where_a_url_points(tmp_path, monkeypatch):
    monkeypatch.setenv("ALP_CACHE", str(tmp_path / "cache"))
    clips = [clip(i, audio_path=wav(tmp_path / f"{i}.wav", 300 + i), captions=("a",)) for i in range(5)]
    accounting = build(clips, "memory://sets/tones", source_name="x", shards=2)
    build(clips, f"file://{tmp_path}/tones", source_name="x", shards=2)
    local = {path.name: path.read_bytes() for path in (tmp_path / "tones").iterdir()}
    assert {name: storage.read(f"memory://sets/tones/{name}") for name in storage.names("memory://sets/tones")} == local
    dataset = open_dataset("memory://sets/tones")
    assert dataset.verify()["clips"] == 5
    assert dataset.read(3).audio is not None
    assert build(clips, "memory://sets/tones", source_name="x", shards=2) == accounting
    with pytest.raises(UserError, match="a different build"):
        build(clips[1:], "memory://sets/tones", source_name="x", shards=2)
    tables.exclude("memory://sets/tones", np.array([1]), ["leak:audio"])
    assert open_dataset("memory://sets/tones").info["accounting"]["excluded"] == {"leak:audio": 1}
    build([dataclasses.replace(c, id=f"b:{c.id}") for c in clips], "memory://sets/more", source_name="x", shards=1)
    merge(["memory://sets/tones", "memory://sets/more"], str(tmp_path / "merged"), dedupe="all")
    merged = open_dataset(tmp_path / "merged")
    assert merged.verify()["clips"] == 10
    assert merged.info["accounting"]["excluded"] == {"duplicate_audio": 4, "leak:audio": 1}
