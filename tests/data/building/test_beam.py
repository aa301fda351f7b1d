"""The same build on Apache Beam; skipped where the extra is not installed."""

import numpy as np
import pytest
import soundfile

from alp_jax.core.clip import Clip
from alp_jax.core.errors import StorageError, UserError
from alp_jax.data.building import beam
from alp_jax.data.building.build import build
from alp_jax.data.store.dataset import open_dataset


def make_clips(folder, n):
    folder.mkdir()
    for i in range(n):
        soundfile.write(folder / f"{i}.wav", 0.3 * np.sin(np.arange(2400) * (0.05 + 0.001 * i)), 16_000)
    return [Clip(f"t:{i}", "t", f"r:{i}", str(folder / f"{i}.wav"), captions=("a tone",)) for i in range(n + 1)]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_beam_and_the_pool_write_the_same_bytes(tmp_path):
    pytest.importorskip("apache_beam")
    clips = make_clips(tmp_path / "wav", 6)  # the last has no file
    for engine, options in (("pool", {"workers": 1}), ("beam", {})):
        build(clips, tmp_path / engine, source_name="t", shards=2, max_bad_share=0.5, engine=engine, **options)
    assert contents(tmp_path / "beam") == contents(tmp_path / "pool")
    assert open_dataset(tmp_path / "beam").verify()["clips"] == 6


def test_what_beam_cannot_do_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("apache_beam")
    clips = make_clips(tmp_path / "wav", 2)
    for engine, options in (("beam", ["--runner=NoSuchRunner"]), ("pool", ["--runner=DirectRunner"])):
        with pytest.raises(UserError, match="beam_options"):
            build(clips, tmp_path / "a", source_name="t", engine=engine, beam_options=options)
    assert not (tmp_path / "a").exists()

    def full(task, watch):
        raise OSError("No space left on device")

    monkeypatch.setattr(beam, "write", full)
    with pytest.raises(StorageError, match="No space left"):
        build(clips, tmp_path / "b", source_name="t", engine="beam")


def test_without_beam_the_engine_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "apache_beam", None)
    with pytest.raises(UserError, match=r"alp_jax\[beam\]"):
        build(make_clips(tmp_path / "wav", 1), tmp_path / "set", source_name="t", engine="beam")
    with pytest.raises(UserError, match="engine"):
        build([], tmp_path / "set", source_name="t", engine="spark")
