"""The driver with children that take a tenth of a second: each run once, whatever dies."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from alp_jax.cli import main as cli
from alp_jax.core.errors import Preempted, UserError
from alp_jax.scaling.sweep.child import Lock, core_shares, make_slots
from alp_jax.scaling.sweep.driver import Sweep, train_command
from alp_jax.scaling.sweep.plan import PlannedRun

DRIVER = pathlib.Path(__file__).with_name("fake_sweep.py")
SPEC = importlib.util.spec_from_file_location("fake_sweep", DRIVER)
FAKE = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(FAKE)
make_runs, command, sweep = FAKE.make_runs, FAKE.command, FAKE.sweep


def calls(out, kind):
    return [line.split()[1] for line in (out / "calls.txt").read_text().splitlines() if line.split()[0] == kind]


def statuses(out):
    return [run["status"] for run in json.loads((out / "sweep.json").read_text())["runs"]]


def test_failures_harm_no_other_run_and_are_tried_again(tmp_path):
    behaviours = ["ok", "fail", "kill", "empty", "ok"]
    counts = sweep(tmp_path, behaviours)
    assert (counts["done"], counts["failed"], counts["skipped"]) == (2, 3, 0)
    assert list(counts["failures"].values()) == [
        "status 46: alp: no good learning rate",
        "ended by signal SIGKILL (out of memory is a common cause); last line: ",
        "ended with status 0 but left no DONE; last line: ",
    ]
    assert statuses(tmp_path) == ["done", "failed", "failed", "failed", "done"]
    assert counts["ledger_rows"] == 2
    (tmp_path / "mended").write_text("")
    again = sweep(tmp_path, behaviours)
    assert (again["done"], again["failed"], again["skipped"]) == (1, 2, 2)
    assert len(calls(tmp_path, "start")) == 5 + 3
    assert json.loads((tmp_path / "sweep.json").read_text())["runs"][1]["attempts"] == 2
    assert again["ledger_rows"] == 3
    assert "some output" in (tmp_path / "runs" / "contrastive-2-r1" / "output.txt").read_text()


def test_what_failed_before_is_tried_again_after_all_others(tmp_path):
    behaviours = ["fail", "ok", "ok"]
    sweep(tmp_path, behaviours, only="r0")
    sweep(tmp_path, behaviours)
    assert [name[-2:] for name in calls(tmp_path, "start")] == ["r0", "r1", "r2", "r0"]


def test_only_selects_and_the_rest_stays_waiting(tmp_path):
    counts = sweep(tmp_path, ["ok", "ok"], only="r1")
    assert counts["done"] == 1
    assert statuses(tmp_path) == ["waiting", "done"]


def start_driver(out, behaviours, parallel=1):
    return subprocess.Popen(
        [sys.executable, str(DRIVER), str(out), ",".join(behaviours), str(parallel)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        cwd=DRIVER.parents[2],
    )


def wait_for(condition, seconds=20.0):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.02)


def started(out, count):
    return lambda: (out / "calls.txt").exists() and len(calls(out, "start")) >= count


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_child_waits_for_it_and_the_next_call_goes_on(tmp_path, number):
    behaviours = ["ok", "slow", "ok"]
    driver = start_driver(tmp_path, behaviours)
    wait_for(started(tmp_path, 2))
    time.sleep(0.1)  # the child sets its handler before it says that it has started; the driver is waiting by now
    driver.send_signal(number)
    out, _ = driver.communicate(timeout=20)
    assert driver.returncode == 42
    assert "contrastive-2-r1" in out
    assert calls(tmp_path, "saved") == ["contrastive-2-r1"]
    assert statuses(tmp_path) == ["done", "interrupted", "waiting"]
    (tmp_path / "mended").write_text("")
    counts = sweep(tmp_path, behaviours)
    assert (counts["done"], counts["skipped"]) == (2, 1)


def test_runs_at_a_time_share_the_cores_and_each_is_done_once(tmp_path):
    counts = sweep(tmp_path, ["together", "together", "kill", "ok", "ok"], parallel=2)
    assert (counts["done"], counts["failed"]) == (4, 1)
    first, second = shares = core_shares(2)
    assert first
    assert second
    assert not first & second
    used = [frozenset(json.loads(file.read_text())) for file in tmp_path.glob("runs/*/cores.json")]
    assert set(used) == set(shares) or sys.platform != "linux"
    with pytest.raises(UserError, match="--parallel 0: must be from 1 to"):
        sweep(tmp_path, ["ok"], parallel=0)


def test_runs_are_packed_on_gpus_one_to_each(tmp_path):
    counts = sweep(tmp_path, ["together", "together", "ok"], gpus=["2", "5"])
    assert counts["done"] == 3
    used = {run.id: (tmp_path / "runs" / run.id / "gpus.txt").read_text() for run in make_runs(["ok"] * 3)}
    assert sorted(list(used.values())[:2]) == ["2", "5"]
    assert set(used.values()) == {"2", "5"}


def test_a_signal_stops_all_runs_at_work(tmp_path):
    driver = start_driver(tmp_path, ["slow", "slow", "ok"], parallel=2)
    wait_for(started(tmp_path, 2))
    time.sleep(0.1)
    driver.send_signal(signal.SIGTERM)
    out, _ = driver.communicate(timeout=20)
    assert driver.returncode == 42
    assert "in run contrastive-1-r0 and contrastive-2-r1" in out
    assert sorted(calls(tmp_path, "saved")) == ["contrastive-1-r0", "contrastive-2-r1"]
    assert statuses(tmp_path) == ["interrupted", "interrupted", "waiting"]


def test_the_time_that_is_left_counts_on_runs_at_a_time(tmp_path):
    runs = make_runs(["ok"] * 5)
    assert Sweep("grid", runs, tmp_path, command).outlook(runs).seconds == 5.0
    assert Sweep("grid", runs, tmp_path, command, slots=make_slots(2)).outlook(runs).seconds == 3.0


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.nightly)])
def test_twelve_runs_kills_and_two_failing_runs_give_the_table_of_an_undisturbed_sweep(tmp_path, kills):
    behaviours = [*["ok"] * 3, "fail", *["ok"] * 4, "fail", *["ok"] * 2, "held"]  # the last one ends when it is let
    out, rng, begun = tmp_path / "disturbed", random.Random(0), 0
    for kill in range(kills):
        driver = start_driver(out, behaviours)
        wait_for(started(out, begun + 1))
        time.sleep(rng.uniform(0.0, 0.12))
        driver.kill()
        if kill % 2:  # and the run that is at work too, before it can save
            newest = max(out.glob("runs/*/pid"), key=lambda file: file.stat().st_mtime_ns)
            if not newest.with_name("DONE").exists():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(newest.read_text()), signal.SIGKILL)
        assert driver.wait(20) == -signal.SIGKILL
        wait_for(lambda: sweep_is_free(out))
        begun = len(calls(out, "start"))
    (out / "released").touch()
    counts = sweep(out, behaviours)
    assert counts["failed"] == 2
    assert set(counts["failures"].values()) == {"status 46: alp: no good learning rate"}
    good = sorted(run.id for run in make_runs(behaviours) if run.config != "fail")
    assert sorted(calls(out, "done")) == good  # each once
    assert statuses(out) == ["failed" if behaviour == "fail" else "done" for behaviour in behaviours]
    assert not counts["ledger_problems"]

    (tmp_path / "undisturbed").mkdir()
    (tmp_path / "undisturbed" / "released").touch()
    sweep(tmp_path / "undisturbed", list(behaviours))
    for folder in (out, tmp_path / "undisturbed"):
        assert cli.main(["sweep", "table", "--out", str(folder)]) == 0
    for name in ("ledger.csv", "ledger.parquet"):
        assert (tmp_path / "undisturbed" / name).read_bytes() == (out / name).read_bytes()
    assert len((out / "ledger.csv").read_text().splitlines()) == 1 + 10


def sweep_is_free(out):
    """No driver and no run holds the sweep's locks."""
    try:
        with Lock(out / ".lock", 0.0, "driver"), Lock(out / ".child.lock", 0.0, "child"):
            return True
    except UserError:
        return False


def test_a_run_whose_driver_was_killed_is_called_so_and_its_time_counts(tmp_path):
    runs = make_runs(["ok"])
    Sweep("grid", runs, tmp_path, command).run(runs)
    state = json.loads((tmp_path / "sweep.json").read_text())
    output = tmp_path / "runs" / runs[0].id / "output.txt"
    (tmp_path / "runs" / runs[0].id / "DONE").unlink()
    state["runs"][0] |= {"status": "running", "seconds": 5.0, "since": 1000.0}
    (tmp_path / "sweep.json").write_text(json.dumps(state))
    os.utime(output, (1007.0, 1007.0))
    record = Sweep("grid", runs, tmp_path, command).record(runs[0])
    assert (record["status"], record["cause"], record["seconds"]) == ("interrupted", "its driver was killed", 12.0)


def test_status_names_what_every_run_is_doing(tmp_path, capsys):
    behaviours = ["ok", "fail", "slow"]
    driver = start_driver(tmp_path, behaviours)
    wait_for(started(tmp_path, 3))
    assert cli.main(["sweep", "status", "--out", str(tmp_path)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "status", "tries", "time", "note"]
    assert [line.split()[:3] for line in lines] == [
        ["contrastive-3-r2", "running", "1"],
        ["contrastive-2-r1", "failed", "1"],
        ["contrastive-1-r0", "done", "1"],
    ]
    assert lines[1].endswith("status 46: alp: no good learning rate")
    driver.send_signal(signal.SIGTERM)
    driver.communicate(timeout=20)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells children that their parent died only on Linux")
def test_the_child_of_a_killed_driver_is_told_to_stop(tmp_path):
    driver = start_driver(tmp_path, ["slow"])
    wait_for(started(tmp_path, 1))
    time.sleep(0.1)
    driver.kill()
    driver.communicate(timeout=20)
    wait_for(lambda: calls(tmp_path, "saved"))


def test_two_drivers_and_two_sweeps_in_one_folder_are_refused(tmp_path):
    with Lock(tmp_path / ".lock", 0.0, "taken"), pytest.raises(UserError, match="another driver"):
        sweep(tmp_path, ["ok"])
    sweep(tmp_path, ["ok"])
    with pytest.raises(UserError, match="holds sweep 'grid', not 'other'"):
        Sweep("other", make_runs(["ok"]), tmp_path, command)


def test_an_orphan_that_is_still_at_work_is_waited_for_then_named(tmp_path):
    runs = make_runs(["ok"])
    with Lock(tmp_path / ".child.lock", 0.0, "taken"), pytest.raises(UserError, match="still running"):
        Sweep("grid", runs, tmp_path, command, grace_s=0.2).run(runs)
    assert not os.path.exists(tmp_path / "calls.txt")


def test_measured_durations_replace_the_stated_ones(tmp_path):
    runs = make_runs(["ok", "ok"])
    driver = Sweep("grid", runs, tmp_path, command)
    assert driver.outlook(runs[1:]).seconds == 1.0
    driver.run(runs[:1])
    outlook = driver.outlook(runs)
    assert 0.1 <= outlook.seconds < 1.0
    assert outlook.spent_hours == pytest.approx(outlook.seconds / 3600)
    again = Sweep("grid", [runs[0], dataclasses.replace(runs[1], seconds=3.0)], tmp_path, command)
    assert again.outlook(again.runs).seconds == pytest.approx(3 * outlook.seconds)


def test_the_real_command_trains_evaluates_and_shares_baselines(tmp_path):
    run = PlannedRun("x", "trained", "configs/pretrain.py:pairs=1k", ("--config.seed=1",), {}, 1.0)
    words = train_command(run, tmp_path / "runs" / "x")
    assert words[1:4] == ["-m", "alp_jax", "train"]
    assert f"--workdir={tmp_path / 'runs' / 'x'}" in words
    assert f"--floors={tmp_path / 'floors.json'}" in words
    assert words[-2:] == ["--config=configs/pretrain.py:pairs=1k", "--config.seed=1"]


def test_a_signal_before_the_first_run_starts_nothing(tmp_path):
    runs = make_runs(["ok", "ok"])
    driver = Sweep("grid", runs, tmp_path, command)
    driver._on_signal(signal.SIGTERM, None)
    with pytest.raises(Preempted, match="between runs"):
        driver.run(runs)
    assert statuses(tmp_path) == ["waiting", "waiting"]
