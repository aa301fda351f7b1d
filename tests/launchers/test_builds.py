"""Builds of data under SLURM: parts as an array, and the job that puts them together."""

import json
import os
import subprocess

import pytest

from alp_jax.cli.main import main

BUILD = ["data", "build", "captionstew", "--root", "my downloads", "--out"]


def launch(capsys, *args, command):
    code = main(["launch", *args, "--", *command])
    return code, *capsys.readouterr()


def test_each_node_gets_a_part_and_one_job_follows(programs, capsys, tmp_path):
    programs.add("sbatch", [(("--parsable",), [(0, "7;cluster")]), ((), [(0, "Submitted batch job 8")])])
    out = str(tmp_path / "stew")
    code, text, _ = launch(capsys, "slurm", "--nodes", "3", "--name", "stew", command=[*BUILD, out])
    assert code == 0
    assert "parts are job 7; Submitted batch job 8, after them" in text
    folder = tmp_path / "stew-launch" / "launch" / "1"
    assert programs.calls == [
        ["sbatch", "--parsable", str(folder / "parts.sbatch")],
        ["sbatch", "--dependency=afterok:7", str(folder / "finish.sbatch")],
    ]
    parts, finish = ((folder / f"{name}.sbatch").read_text() for name in ("parts", "finish"))
    for line in ("--array=0-2", "--nodes=1", "--ntasks-per-node=1", "--requeue"):
        assert f"#SBATCH {line}\n" in parts
    assert "gpus" not in parts + finish
    assert "--array" not in finish
    record = json.loads((folder / "launch.json").read_text())
    assert record["commands"] == [*([*BUILD, out, "--part", f"{n}/3"] for n in (1, 2, 3)), [*BUILD, out]]
    assert not (tmp_path / "stew").exists()  # the launch leaves the data set's folder alone
    shown = parts.replace("srun --kill-on-bad-exit=0 --wait=120", "printf '%s\\0'")
    environ = {"PATH": "/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "1"}
    done = subprocess.run(["/bin/bash", "-c", shown], capture_output=True, text=True, env=environ)
    assert done.stdout.split("\0")[:-1] == [".venv/bin/alp", *BUILD, out, "--part", "2/3"]


@pytest.mark.parametrize(("code", "requeued"), [(42, True), (143, True), (0, False), (2, False), (44, False)])
def test_a_part_that_was_stopped_is_queued_again(programs, capsys, tmp_path, code, requeued):
    programs.add("srun", [((), [(code, "")])])
    programs.add("scontrol", [((), [(0, "")])])
    result = main(["launch", "slurm", "--dry_run", "--json", "--", *BUILD, str(tmp_path / "stew")])
    scripts = json.loads(capsys.readouterr().out)["scripts"]
    assert (result, len(scripts)) == (0, 2)
    for script in scripts:
        done = subprocess.run(["/bin/bash", "-c", script], env={**os.environ, "SLURM_JOB_ID": "12"})
        assert done.returncode == code
    assert programs.calls.count(["scontrol", "requeue", "12"]) == 2 * requeued


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["data", "merge", "a", "--out", "b"], "only 'data build ... --out DIR' can"),
        (BUILD[:-1], "only 'data build ... --out DIR' can"),
        ([*BUILD, "x", "--part", "1/2"], "--part does not go with launch"),
        ([*BUILD, "x", "--engine=beam"], "--engine does not go with launch"),
    ],
)
def test_what_cannot_be_launched_is_one_line(capsys, command, said):
    code, _, err = launch(capsys, "slurm", "--dry_run", command=command)
    assert code == 2
    assert said in err
    assert launch(capsys, "local", "--dry_run", command=command)[0] == 2  # only SLURM takes builds
