"""Runs that a scheduler does: submitted once, observed through their folders and logs, submitted again if they fail."""

import json
import os
import pathlib
import stat
import time

import pytest

from alp_jax.cli import main as cli
from alp_jax.scaling.sweep import prepare

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture
def submitted(tmp_path, monkeypatch, capsys):
    """A folder whose five runs were given to a program called sbatch, which notes what it was called with."""
    program = tmp_path / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/submitted.txt\necho Submitted batch job 17\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(prepare, "estimate_in_own_process", lambda sweep, data: {})
    monkeypatch.chdir(ROOT)
    out = tmp_path / "sweep"
    assert submit(out) == 0
    assert "Submitted batch job 17" in capsys.readouterr().out
    return out


def submit(out, *flags):
    sweep = "--sweep=configs/sweeps/autoregressive.py:size=mini"
    return cli.main(["sweep", sweep, "--out", str(out), "--on", "slurm", *flags])


def statuses(out, capsys):
    assert cli.main(["sweep", "status", "--out", str(out), "--json"]) == 0
    return [(run["status"], run["cause"]) for run in json.loads(capsys.readouterr().out)["runs"]]


def test_jobs_are_followed_collected_and_submitted_again_if_they_failed(submitted, finished, tmp_path, capsys):
    names = [run["id"] for run in json.loads((submitted / "sweep.json").read_text())["runs"]]
    assert (tmp_path / "submitted.txt").read_text().split() == [str(submitted / "launch" / "1" / "job.sbatch")]
    assert statuses(submitted, capsys) == [("waiting", "")] * 5

    finished(submitted / "runs" / names[0], objective="captioning")
    for name in names[1:]:
        (submitted / "runs" / name).mkdir()
    (submitted / "runs" / names[1] / ".lease").write_text("{}")
    logs = submitted / "launch" / "1"
    (logs / "slurm-17_1.txt").write_text("step 20\n")
    (logs / "slurm-17_2.txt").write_text("alp: no good rate\nsrun: error: n1: task 0: Exited with exit code 46\n")
    (logs / "slurm-17_3.txt").write_text("alp: saved\nsrun: error: n1: task 0: Exited with exit code 42\n")
    expected = [("done", ""), ("running", ""), ("failed", "status 46: alp: no good rate")]
    expected += [("interrupted", "stopped, and queued again"), ("waiting", "")]
    assert statuses(submitted, capsys) == expected
    old = time.time() - 3600
    os.utime(submitted / "runs" / names[1] / ".lease", (old, old))
    assert statuses(submitted, capsys)[1] == ("waiting", "")

    assert cli.main(["sweep", "table", "--out", str(submitted)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("1 of 5 runs")
    assert f"failed: {names[2]}: status 46: alp: no good rate" in said
    assert json.loads((submitted / "sweep.json").read_text())["runs"][0]["status"] == "done"
    assert (submitted / "ledger.parquet").is_file()

    assert submit(submitted, "--only", names[2]) == 0
    capsys.readouterr()
    script = (submitted / "launch" / "2" / "job.sbatch").read_text()
    assert "--array" not in script
    assert "launch/2/slurm-%j.txt" in script
    (submitted / "launch" / "2" / "slurm-18.txt").write_text("step 1\n")
    assert statuses(submitted, capsys)[2] == ("waiting", "")
    for name in names[1:]:
        (submitted / "runs" / name / "DONE").touch()
    assert submit(submitted) == 2
    assert "all 5 runs are finished" in capsys.readouterr().err
