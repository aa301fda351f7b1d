"""What a sweep will take is said before anything starts, corrected by what runs took, and held to a budget."""

import json
import pathlib
import sys

import pytest
import yaml

from alp_jax.cli import main as cli
from alp_jax.core.errors import UserError
from alp_jax.scaling.sweep import forecast as module
from alp_jax.scaling.sweep import prepare
from alp_jax.scaling.sweep.child import make_slots
from alp_jax.scaling.sweep.driver import OverBudget, Sweep
from alp_jax.scaling.sweep.forecast import Budget, Forecast, Hardware, RunEstimate
from alp_jax.scaling.sweep.plan import PlannedRun, load_sweep, plan_runs

ROOT = pathlib.Path(__file__).parents[3]
CHILD = pathlib.Path(__file__).with_name("fake_child.py")


def make_runs(count=4, seconds=None):
    return [PlannedRun(f"contrastive-{i + 1}-r{i}", "trained", "ok", (), {}, seconds) for i in range(count)]


def records(runs, **done):
    """Nothing has begun, but for the runs in ``done``: name -> (seconds, bytes)."""
    fresh = {run.id: {"status": "waiting", "seconds": 0.0, "bytes": 0} for run in runs}
    for name, (seconds, size) in done.items():
        fresh[next(id for id in fresh if id.endswith(name))] = {"status": "done", "seconds": seconds, "bytes": size}
    return fresh


def command(run, folder):
    return [sys.executable, "-S", str(CHILD), str(folder), run.config]


@pytest.mark.parametrize(
    ("seconds", "rate", "done", "expected"),
    [
        (None, None, {}, None),  # nothing to go by
        (60.0, None, {}, 60.0),  # as the sweep file says
        (60.0, None, {"r0": (90.0, 1)}, 90.0),  # as it went
        (None, 1e12, {}, 2e15 / (1e12 * 4)),  # operations at the rate of four devices
        (None, 1e12, {"r0": (100.0, 1)}, 200.0),  # the second run has twice the operations of the first
        (None, None, {"r0": (100.0, 1)}, 200.0),
    ],
)
def test_durations_come_from_the_file_the_operations_and_then_from_finished_runs(seconds, rate, done, expected):
    runs = make_runs(2, seconds)
    estimates = {run.id: RunEstimate(1e15 * (i + 1), 10.0) for i, run in enumerate(runs)}
    forecast = Forecast(runs, records(runs, **done), estimates, Hardware(slots=1, devices=4, rate=rate))
    assert forecast.seconds(runs[1]) == expected


def test_the_outlook_adds_up_hours_of_all_devices_and_bytes():
    runs = make_runs(4, 3600.0)
    estimates = {run.id: RunEstimate(1.0, 100.0) for run in runs}
    forecast = Forecast(runs, records(runs, r0=(1800.0, 80)), estimates, Hardware(slots=2, devices=8))
    outlook = forecast.outlook(runs[2:], [(600.0, 1200.0)])
    assert outlook.seconds == 1200.0 + 1800.0  # one begins in the free place now, the other after the one at work
    assert outlook.spent_hours == 8 * (0.5 + 1 / 6)
    assert outlook.hours == 8 * (1 / 3 + 2 * 0.5)
    assert (outlook.stored, outlook.bytes) == (80, 2 * 80)
    unknown = Forecast(runs, records(runs), {}, Hardware()).outlook(runs)
    assert unknown.bytes is None
    assert unknown.hours == 4.0


@pytest.mark.parametrize(
    ("budget", "seconds", "words"),
    [
        (Budget(device_hours=3.9), 3600.0, "4 device-hours (0 of them spent) are more than --budget_device_hours 3.9"),
        (Budget(gb=3.9), 3600.0, "4 GB are more than --budget_gb 3.9"),
        (Budget(device_hours=10.0), None, "name --device"),
    ],
)
def test_a_sweep_above_its_budget_starts_nothing(tmp_path, budget, seconds, words):
    runs = make_runs(4, seconds)
    estimates = {run.id: RunEstimate(1.0, 1e9) for run in runs}
    sweep = Sweep("grid", runs, tmp_path / "s", command, estimates=estimates, budget=budget)
    with pytest.raises(UserError) as caught:
        sweep.run(runs)
    assert words in str(caught.value)
    assert not (tmp_path / "s").exists()
    for value in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="--budget_gb"):
            Budget(gb=value)


def test_a_disk_that_is_too_small_is_named_before_anything_starts(tmp_path, monkeypatch):
    runs = make_runs(2, 1.0)
    sweep = Sweep("grid", runs, tmp_path / "s", command, estimates={run.id: RunEstimate(1.0, 2e9) for run in runs})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 3e9}))
    with pytest.raises(UserError, match="4 GB of checkpoints and 3 GB are free"):
        sweep.run(runs)
    assert not (tmp_path / "s").exists()


def test_the_first_run_corrects_the_prediction_and_a_budget_that_breaks_ends_the_sweep(tmp_path):
    runs = make_runs(3, 0.001)  # they take a hundred times that
    budget = Budget(device_hours=0.1 / 3600)
    with pytest.raises(
        OverBudget, match=r"stopped before contrastive-2-r1: by what finished runs took, .*device-hours"
    ):
        Sweep("grid", runs, tmp_path, command, budget=budget).run(runs)
    state = json.loads((tmp_path / "sweep.json").read_text())["runs"]
    assert [run["status"] for run in state] == ["done", "waiting", "waiting"]
    assert Sweep("grid", runs, tmp_path, command).run(runs)["done"] == 2


def test_gpus_are_shared_out_and_nothing_else_is():
    assert [place.environ for place in make_slots(gpus=["0", "1", "2", "3"], gpus_per_run=2)] == [
        {"CUDA_VISIBLE_DEVICES": "0,1"},
        {"CUDA_VISIBLE_DEVICES": "2,3"},
    ]
    for gpus, each in ((["0", "0"], 1), (["0", "1", "2"], 2), (["0"], 0), ([""], 1)):
        with pytest.raises(UserError, match="--gpus"):
            make_slots(gpus=gpus, gpus_per_run=each)


@pytest.fixture
def no_estimates(monkeypatch):
    """The command line without a second process of JAX: every run keeps a gigabyte."""

    def estimates(sweep, data):
        runs = plan_runs(load_sweep(sweep), data)
        return {run.id: RunEstimate(1e18, 1e9) for run in runs}

    monkeypatch.setattr(prepare, "estimate_in_own_process", estimates)
    monkeypatch.chdir(ROOT)


def run_cli(capsys, *argv):
    code = cli.main(["sweep", *argv])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_what_would_be_submitted_is_shown(no_estimates, capsys, tmp_path):
    grid = ["--sweep=configs/sweeps/autoregressive.py", "--out", str(tmp_path / "s"), "--dry_run"]
    code, slurm = run_cli(capsys, *grid, "--on", "slurm", "--device", "h100", "--at_once", "2")
    assert code == 0
    assert "#SBATCH --array=0-4%2" in slurm
    assert slurm.count("command=(.venv/bin/alp train ") == 5
    hours = 5 * 1e18 / (0.3 * 67e12) / 3600
    assert "5 runs; " in slurm
    assert f"{hours:.3g} device-hours (0 spent); 5 GB" in slurm
    gke = ["--on", "gke", "--topology", "v5e:4x4", "--image", "r/alp:1", "--queue", "team"]
    code, jobs = run_cli(capsys, *grid, *gke)
    assert code == 0
    documents = list(yaml.safe_load_all(jobs.rpartition("# 5 runs")[0]))
    assert [one["metadata"]["name"] for one in documents] == [f"sweep-{i}" for i in range(5)]
    assert {one["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] for one in documents} == {"team"}
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "--out DIR is missing"),
        (["--out", "s"], "--sweep FILE is missing"),
        (["--out", "s", "--sweep=configs/sweeps/mini.py:size=mini"], "takes no arguments"),
        (["--out", "s", "--sweep=configs/sweeps/hybrid.py:siz=mini"], "nearest: 'size'"),
        (["--out", "s", "--sweep=configs/sweeps/mini.py", "--device", "h1000"], "did you mean 'h100'"),
        (["--out", "s", "--sweep=configs/sweeps/mini.py", "--device", "h100", "--share", "2"], "--share 2"),
        (["--out", "s", "--sweep=configs/sweeps/mini.py", "--gpus", "0", "--parallel", "2"], "give one of them"),
        (["--out", "s", "--sweep=configs/sweeps/mini.py", "--only", "x9"], "no run of 14"),
        (["--out", "s", "--sweep=configs/sweeps/mini.py", "--on", "gke"], "needs --topology"),
        (["--out", "s", "--sweep=configs/sweeps/mini.py", "--on", "slurm"], "sbatch is not installed"),
        (["table", "--out", "s"], "sweep.json does not exist"),
        (["status", "--out", "s"], "sweep.json does not exist"),
    ],
)
def test_wrong_flags_are_named_in_one_line(no_estimates, capsys, argv, words):
    code, said = run_cli(capsys, *argv)
    assert code == 2
    assert words in said
    assert said.startswith("alp: ")
    assert said.count("\n") == 1
    assert not (ROOT / "s").exists()
