"""SIGTERM at any time ends all processes with 42 and a line that says what is saved; the same command goes on."""

import json
import os
import pathlib
import re
import subprocess
import sys
import time

import jax
import pytest

from alp_jax.core.errors import StorageError, UserError
from alp_jax.core.run_files import LEASE_S
from alp_jax.train import lease as lease_module
from alp_jax.train.checkpoint_folder import complete
from alp_jax.train.run_dir import RunDir
from tests import cluster

STEPS = 12


def start(when, run, config, processes=1, process=0):
    arguments = ["-m", "tests.train.signals", when, run, config, process]
    cache = {"ALP_CACHE": str(pathlib.Path(jax.config.jax_compilation_cache_dir).parent)}
    if processes > 1:
        return cluster.run(arguments, processes, timeout_s=100, environ=cache)
    ended = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cluster.ROOT,
        timeout=100,
        check=False,
    )
    return [cluster.Ended(ended.returncode, ended.stdout, ended.stderr)]


def stopped(ended, words):
    """All of them left with 42 and say ``words`` in a line, not a traceback; returns what the first group matched."""
    for one in ended:
        assert one.code == 42, one.err
        assert "Traceback" not in one.err
        found = re.search(words, one.err)
        assert found, one.err
    return found.groups()


def test_one_process_is_stopped_at_any_time_and_goes_on(tiny, config_file, tmp_path):
    """One run folder all along: each command goes on where the one before was stopped; between saves: test_loop.py."""
    run, config = tmp_path / "run", config_file(tiny())
    stopped(start("compile", run, config), "by signal 15 before the first step: there is nothing to save")
    assert complete(run) == []
    (step,) = stopped(start("save", run, config), r"by signal 15 after step (\d+), which is saved")
    assert complete(run)[-1] == int(step)
    stopped(start("evaluate", run, config), rf"by signal 15 during evaluation, step {STEPS} is saved")
    assert complete(run)[-1] == STEPS
    assert not (run / "DONE").exists()
    (ended,) = start("never", run, config)
    assert ended.code == 0, ended.err
    assert (run / "DONE").exists()
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(STEPS))
    assert json.loads((run / "summary.json").read_text())["samples_seen"] == 16 * STEPS


def test_two_processes_stop_at_one_step_when_either_is_asked(tiny, config_file, tmp_path):
    run, config = tmp_path / "run", config_file(tiny())
    words = "by signal 15 before the first step: there is nothing to save"
    stopped(start("compile", run, config, 2, process=1), words)
    (step,) = stopped(start("train", run, config, 2, process=1), r"by signal 15 after step (\d+), which is saved")
    assert complete(run)[-1] == int(step) < STEPS
    assert [one.code for one in start("never", run, config)] == [0]  # on as many devices of one process
    assert complete(run)[-1] == STEPS


def test_a_folder_in_use_on_this_host_is_refused(tiny, tmp_path):
    with RunDir(tmp_path / "run", tiny()), pytest.raises(UserError, match="in use by another process on this host"):
        RunDir(tmp_path / "run", tiny())
    RunDir(tmp_path / "run", tiny()).close()
    assert not (tmp_path / "run" / ".lease").exists()


def test_a_folder_in_use_on_another_host_is_refused_until_its_lease_is_old(tiny, tmp_path):
    run = tmp_path / "run"
    RunDir(run, tiny()).close()
    (run / ".lease").write_text(json.dumps({"host": "far", "boot": "b", "pid": 77}))
    with pytest.raises(UserError, match=r"in use by process 77 on far, seen \d+ s ago"):
        RunDir(run, tiny())
    old = time.time() - LEASE_S - 5
    os.utime(run / ".lease", (old, old))
    with RunDir(run, tiny()):
        assert json.loads((run / ".lease").read_text())["pid"] == os.getpid()


def test_a_lease_is_renewed(tmp_path, monkeypatch):
    monkeypatch.setattr(lease_module, "RENEW_S", 0.05)
    lease = lease_module.Lease(pathlib.Path(tmp_path))
    os.utime(tmp_path / ".lease", (1, 1))
    deadline = time.monotonic() + 5
    while (tmp_path / ".lease").stat().st_mtime == 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    held = json.dumps({"host": "far", "boot": "b", "pid": 77})
    (tmp_path / ".lease").write_text(held)  # by another host, while this process was stalled
    while not lease.lost:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert lease.lost.startswith(f"{tmp_path} was taken over by process 77 on far, as this one was not heard of for 60")
    lease.close()
    assert (tmp_path / ".lease").read_text() == held


def test_a_run_that_another_host_took_over_ends(tiny, tmp_path):
    run = RunDir(tmp_path / "run", tiny())
    run.lease.lost = "taken over"
    with pytest.raises(StorageError, match="taken over"):
        run.close()
    RunDir(tmp_path / "run", tiny()).close()
