"""``alp train`` with its run folder on a server that speaks S3: killed, taken up elsewhere, refused at once."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

from alp_jax.cli import main as cli
from alp_jax.core import object_store, storage
from alp_jax.core.errors import StorageError
from alp_jax.train import lease, uploads
from alp_jax.train.checkpoint import read_checkpoint
from alp_jax.train.checkpoint_folder import complete, inventory, verify_all
from alp_jax.train.loop import train
from alp_jax.train.remote_run import local_run, stage_of
from tests import cluster
from tests.s3_server import s3  # noqa: F401
from tests.train import counting


def numbers(text):
    """What does not depend on the time, of every line of metrics."""
    return [{key: line[key] for key in ("step", "loss")} for line in map(json.loads, text.splitlines())]


def test_a_run_that_was_killed_goes_on_from_an_empty_disk_to_the_same_bits(
    s3,  # noqa: F811
    tiny,
    config_file,
    tmp_path,
    monkeypatch,
):
    run, config = storage.join(s3, "runs/killed"), tiny(train={"keep": 1, "keep_every": 6})
    monkeypatch.setattr(lease, "LEASE_S", 2.0)
    arguments = [sys.executable, "-m", "tests.train.counting", "0.3", "train", f"--workdir={run}"]
    with subprocess.Popen(
        [*arguments, f"--config={config_file(config)}"],
        cwd=cluster.ROOT,
        env=os.environ | {"ALP_CACHE": str(tmp_path / "first disk")},
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        deadline = time.monotonic() + 100
        while 6 not in complete(run):
            assert child.poll() is None, child.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
    assert not storage.names(storage.join(run, "DONE"))
    counting.install(monkeypatch.setattr)
    monkeypatch.setenv("ALP_CACHE", str(tmp_path / "second disk"))
    train(config, run)
    assert storage.names(storage.join(run, ".lease")) == ["00000002"]
    train(config, tmp_path / "whole")
    assert complete(run) == complete(tmp_path / "whole") == [6, 12]
    assert [row["whole"] for row in inventory(run)] == [True, True]
    assert len(list(verify_all(run))) == 2
    for step in (6, 12):
        with local_run(run, [step]) as folder:
            ours, theirs = (read_checkpoint(f / "checkpoints" / str(step)) for f in (folder, tmp_path / "whole"))
        assert jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), ours, theirs))
    there = numbers(storage.read(storage.join(run, "metrics.jsonl")).decode())
    assert there == numbers((tmp_path / "whole" / "metrics.jsonl").read_text())
    assert complete(stage_of(run)) == [12]


def test_a_run_that_another_process_took_over_ends_at_the_next_step(s3, tiny, config_file, monkeypatch, capfd):  # noqa: F811
    run, late = storage.join(s3, "runs/lost"), []
    arguments = ["train", f"--workdir={run}", f"--config={config_file(tiny(train={'steps': 80, 'save_every': 80}))}"]
    monkeypatch.setattr(lease, "RENEW_S", 0.3)
    monkeypatch.setattr(uploads, "EVERY_S", 0.3)
    send, opened = object_store.send, []
    monkeypatch.setattr(object_store, "send", lambda *names: late.append(opened[0].lease.lost) or send(*names))
    made = uploads.Uploads.__init__
    monkeypatch.setattr(uploads.Uploads, "__init__", lambda self, *given: opened.append(self) or made(self, *given))
    counting.install(monkeypatch.setattr, 0.1)

    def take_over():
        while storage.size(storage.join(run, "metrics.jsonl")) < 0:
            time.sleep(0.3)
        storage.write(storage.join(run, ".lease/00000002"), b'{"host": "far", "pid": 77}')

    taker = threading.Thread(target=take_over)
    taker.start()
    assert cli.main(arguments) == StorageError.exit_code
    taker.join()
    assert capfd.readouterr().err.count("taken over") == 1
    assert opened[0].lease.lost.startswith(f"{run} was taken over by process 77 on far")
    assert late
    assert not any(late)
    steps = [line["step"] for line in numbers((stage_of(run) / "metrics.jsonl").read_text())]
    assert 0 < steps[-1] < 60
    assert storage.names(storage.join(run, ".lease")) == ["00000001", "00000002"]


def test_where_no_run_can_be_nothing_is_compiled(s3, tiny, config_file, monkeypatch, capfd):  # noqa: F811
    def refused(workdir):
        assert cli.main(["train", f"--workdir={workdir}", f"--config={config_file(tiny())}", "--dry_run"]) == 2
        (line,) = [line for line in capfd.readouterr().err.splitlines() if "--workdir" in line or "credentials" in line]
        return line

    monkeypatch.setattr("alp_jax.train.setup.prepare", lambda config: pytest.fail("it was begun"))
    assert refused("s4://bucket/run") == (
        "alp: --workdir s4://bucket/run: a run folder cannot be at s4://: give a path, or a URL of gs:// or s3://"
    )
    assert refused("gs:/bucket/run") == "alp: --workdir gs:/bucket/run is not a URL: write gs://bucket/run"
    assert refused("s3://nowhere/run") == "alp: --workdir s3://nowhere/run: The specified bucket does not exist"


@pytest.mark.nightly  # its short form: test_parts.py
def test_two_hosts_that_do_not_see_each_others_disks(s3, tiny, config_file, tmp_path, monkeypatch):  # noqa: F811
    run = storage.join(s3, "runs/two")

    def train_for(steps, disk):
        config = tiny(mesh={"data": 1, "fsdp": 8, "tensor": 1}, train={"steps": steps})
        arguments = ["-m", "tests.train.counting", "0", "train", f"--workdir={run}", "--extend"]
        disks = [{"ALP_CACHE": str(tmp_path / disk / str(process))} for process in range(2)]
        ended = cluster.run([*arguments, f"--config={config_file(config)}"], 2, timeout_s=200, environ=disks)
        assert [one.code for one in ended] == [0, 0], ended
        assert not list(tmp_path.glob(f"{disk}/*/runs/*"))

    train_for(6, "first disks")
    train_for(12, "other disks")
    assert complete(run)[-1] == 12
    ((_, _, files),) = verify_all(run, 12)
    assert {name.split("/")[1] for name in files if "ocdbt.process" in name} == {"ocdbt.process_0", "ocdbt.process_1"}
    assert not storage.names(storage.join(run, ".parts"))
    counting.install(monkeypatch.setattr)
    train(tiny(), tmp_path / "whole")
    with local_run(run, [12]) as folder:
        ours, theirs = (read_checkpoint(f / "checkpoints" / "12")["params"] for f in (folder, tmp_path / "whole"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), ours, theirs)
    lines = numbers(storage.read(storage.join(run, "metrics.jsonl")).decode())
    assert [line["step"] for line in lines] == list(range(12))
