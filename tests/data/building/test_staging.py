"""Parquet rows laid out before shards are written: each row group is read once, and nothing else changes."""

import errno
import io
import os
import types

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from alp_jax.corpora import registry
from alp_jax.data.audio import reader
from alp_jax.data.audio.containers import MemberReader
from alp_jax.data.building import plan, shard, staging
from alp_jax.data.building.build import build
from alp_jax.data.building.filters import CaptionFilter
from alp_jax.data.store.dataset import open_dataset

GROUPS, ROWS = 3, 8


def encoded(seed):
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.1 * np.random.default_rng(seed).standard_normal(3200), 16000, format="WAV")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """GROUPS row groups of ROWS rows, of which one has no sound and one is none."""
    path = tmp_path_factory.mktemp("hf") / "train-00000-of-00001.parquet"
    rows = [{"bytes": encoded(n), "path": f"{n}.wav"} for n in range(GROUPS * ROWS)]
    rows[3] = {"bytes": b"no sound", "path": "3.wav"}
    rows[5] = {"bytes": b"", "path": "5.wav"}
    pq.write_table(
        pa.table({"audio": rows, "text": [f"clip {n}" for n in range(len(rows))]}), path, row_group_size=ROWS
    )
    return path


def made(table, out):
    clips = registry.read("folder", [table])
    accounting = build(clips, out, source_name="folder", shards=4, workers=1, max_bad_share=0.5)
    return accounting, open_dataset(out).fingerprint


def test_the_same_data_set_comes_out_with_and_without(table, tmp_path, monkeypatch):
    staged = []
    real = staging._staged

    def watch(tasks, folder, paths):
        found = real(tasks, folder, paths)
        staged.append([int((task.staged[1] >= 0).sum()) for task in found])
        return found

    monkeypatch.setattr(staging, "_staged", watch)
    accounting, fingerprint = made(table, tmp_path / "staged")
    assert sum(map(sum, staged)) == GROUPS * ROWS - 1  # but the row without bytes
    assert {reason: entry["count"] for reason, entry in accounting["reasons"].items()} == {"not_audio": 1, "empty": 1}
    assert str(table) in str(accounting["reasons"])
    assert not [name for name in os.listdir(tmp_path / "staged") if "staged" in name]
    monkeypatch.setattr(staging, "_WORTH", 1000.0)
    assert made(table, tmp_path / "plain") == (accounting, fingerprint)
    assert len(staged) == 1


@pytest.fixture
def tasks(table, tmp_path):
    """Four tasks of a build that has only been planned."""
    spooled = plan.spool(
        registry.read("folder", [table]), tmp_path / "spool", dedupe="source", captions=CaptionFilter()
    )
    counts = plan.write(spooled, plan.arrange(spooled, "source"), 4, str(tmp_path / "plan"))
    limits = reader.Limits()
    return [
        shard.Task(str(tmp_path / f"{n}.tfrecord"), "x", str(tmp_path / "plan"), n, count, "flac", limits)
        for n, count in enumerate(counts)
    ]


@pytest.mark.parametrize(
    ("share", "expected"), [(10.0, [4]), (1.0, [2, 2]), (0.3, [1, 1, 1, 1]), (1e-6, None)], ids=str
)
def test_a_small_disk_makes_waves_or_none(table, tasks, tmp_path, monkeypatch, capsys, share, expected):
    free = int(share * table.stat().st_size)
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=free))

    def lay_out(some, folder, paths):
        assert paths == [str(table)]
        assert not list(folder.glob(".staged*"))  # the wave before is gone
        (folder / staging.NAME).touch()
        staged.append(len(some))
        return some

    staged = []
    monkeypatch.setattr(staging, "_staged", lay_out)
    assert [task for wave in staging.waves(tasks, tmp_path) for task in wave] == tasks
    assert staged == (expected or [])
    assert not list(tmp_path.glob(".staged*"))
    assert ("no room to lay out" in capsys.readouterr().err) == (expected is None)


def test_a_process_that_dies_leaves_the_rows_to_the_workers(tasks, table, tmp_path, monkeypatch, capfd):
    """Not even what a build that was killed left behind is used: it is about other clips."""

    class Dies:
        exitcode = -9

        def __init__(self, **_):
            pass

        def start(self):
            assert not list(tmp_path.glob(".staged*"))
            (tmp_path / staging.NAME).touch()
            staging.lay_out([str(table)], [""], np.arange(GROUPS * ROWS), tmp_path, 1 << 20)

        def join(self):
            pass

        kill = join

    (tmp_path / staging.NAME).touch()
    np.save(tmp_path / staging.OFFSETS, np.arange(GROUPS * ROWS))
    monkeypatch.setattr(staging.multiprocessing, "get_context", lambda _: types.SimpleNamespace(Process=Dies))
    assert staging._staged(tasks, tmp_path, [str(table)]) == tasks
    assert "audio was not laid out (exit code -9)" in capfd.readouterr().err


def test_a_full_disk_ends_the_process_with_a_line(tmp_path, monkeypatch, capfd):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(staging.processes, "confine", lambda *_: None)
    monkeypatch.setattr(staging, "lay_out", full)
    with pytest.raises(SystemExit) as ended:
        staging._child([], [], None, str(tmp_path), 1, 1)
    assert ended.value.code == 1
    assert capfd.readouterr().err == f"{tmp_path}: OSError: [Errno 28] No space left on device\n"


def test_each_row_group_is_read_once(table, tmp_path, monkeypatch):
    started = []
    iterate = pq.ParquetFile.iter_batches

    def count(*args, **settings):
        started.append(settings["row_groups"])
        return iterate(*args, **settings)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", count)
    rows = np.array([-1, 0, 2, 4, 9, 10, 23, 99], np.int64)
    staging.lay_out([str(table)], [""], rows, tmp_path, 1 << 20)
    assert started == [[0], [1], [2]]
    offsets = np.load(tmp_path / staging.OFFSETS)
    assert (offsets >= 0).tolist() == [False, True, True, True, True, True, True, False]
    for row, offset in zip(rows[1:-1].tolist(), offsets[1:-1].tolist(), strict=True):
        found = MemberReader().read(str(tmp_path / staging.NAME), str(offset), 1 << 20)
        assert found == MemberReader().read(str(table), str(row), 1 << 20)
