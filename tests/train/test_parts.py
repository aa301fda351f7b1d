"""Checkpoints of hosts with disks of their own, one after the other here; at once in test_train_in_a_bucket.py."""

import pathlib

import fsspec
import pytest

from alp_jax.core import storage
from alp_jax.parallel import hosts
from alp_jax.train.parts import HostParts

URL = "memory://bucket/runs/parts"


@pytest.fixture
def host(monkeypatch, tmp_path):
    """``host(number)``: the stage and the parts of a process, of which 0 and 1 share a disk, and 2 and 3 another."""
    fsspec.filesystem("memory").store.clear()
    stages = [tmp_path / disk / "parts" for disk in ("a", "a", "b", "b")]
    for stage in stages:
        stage.mkdir(parents=True, exist_ok=True)
    (stages[0] / ".stage").write_text("of process 0")
    (stages[3] / ".stage").write_text("left by an earlier run")
    (stages[3] / "checkpoints" / "3").mkdir(parents=True)
    everywhere = [[number > 1, str(stage)] for number, stage in enumerate(stages)]
    monkeypatch.setattr("platform.node", lambda: "host")
    monkeypatch.setattr(hosts, "barrier", lambda *arguments: None)

    def make(number):
        monkeypatch.setattr(hosts, "process_index", lambda: number)
        monkeypatch.setattr(hosts, "gather", lambda own, *rest: [[apart, f"host {at}"] for apart, at in everywhere])
        return stages[number], HostParts(URL, stages[number], stages[number] / ".stage", "of process 0")

    return make


def test_process_0_commits_what_all_hosts_have_written(host):
    def write(folder, number):
        for name in (f"state.tmp/ocdbt.process_{number}/d/x", f"state.tmp/array_metadatas/process_{number}"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(str(number))

    for number in (2, 3, 1, 0):
        stage, parts = host(number)
        assert parts.any
        assert parts.apart == (number > 1)
        folder = stage / "checkpoints" / "6.tmp"
        write(folder, number)
        if parts.apart:
            parts.send(folder)
    parts.collect(folder)
    written = storage.tree(folder)
    assert {name.rpartition("_")[2][0] for name in written} == {"0", "1", "2", "3"}
    assert len(written) == 8
    assert storage.tree(URL) == {}


def test_a_host_has_nothing_of_an_earlier_run_and_leaves_nothing(host):
    host(3)
    stage, first = host(2)
    assert [path.name for path in stage.iterdir()] == [".lock"]
    (stage / "checkpoints" / "6").mkdir(parents=True)
    (stage / "bad_steps.jsonl").write_text("{}\n")
    first.forget()
    assert not (stage / "checkpoints").exists()
    first.close()
    assert not pathlib.Path(stage).exists()
    assert storage.read(storage.join(URL, "process_2_bad_steps.jsonl")) == b"{}\n"
