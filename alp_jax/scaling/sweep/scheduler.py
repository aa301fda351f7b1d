"""What became of runs handed to a scheduler, judged by their folders and by the logs of its jobs."""

import pathlib
import re
from typing import Any

from alp_jax.core.errors import Preempted
from alp_jax.core.files import read_json, write_json
from alp_jax.core.run_files import LAUNCH, LAUNCHES, LEDGER, LOCK, OUTPUT, RUNS, SWEEP, is_done, is_leased
from alp_jax.scaling.sweep.child import Lock, latest_line
from alp_jax.scaling.sweep.folder import fetch_results, run_home
from alp_jax.scaling.sweep.ledger import Ledger, collect

_EXIT = re.compile(r"exit code (\d+)\s*$", re.IGNORECASE)  # of srun: "srun: error: n1: task 0: Exited with exit code 2"


def observe(out: pathlib.Path, records: list[dict[str, Any]]) -> None:
    """Brings the ``records`` of a sweep folder up to date with what runs that were submitted have done since.

    A run is finished if it left ``DONE``, running if it holds a fresh lease, and failed if SLURM's log has an exit code
    other than 42, with the run's own last line as the cause. Records of runs that a driver here did are left alone.
    """
    logs = _logs(out)
    for record in records:
        folder = run_home(out, record["id"])
        if is_done(folder):
            record.update(status="done", cause="", exit_code=0)
        elif record["id"] not in logs:
            continue
        elif is_leased(folder):
            record.update(status="running", cause="")
        elif (log := _newest(*logs[record["id"]])) is not None:
            record.update(_ended(log))


def status(out: pathlib.Path) -> list[dict[str, Any]]:
    """Every run's record as it is now, with the last line of a running one as its ``note``; changes nothing."""
    records = read_json(out / SWEEP, "sweep state")["runs"]
    observe(out, records)
    return [{**record, "note": _note(out, record["id"]) if record["status"] == "running" else ""} for record in records]


def collect_finished(out: pathlib.Path) -> tuple[list[dict[str, Any]], Ledger]:
    """Brings state, ledger and tables up to date with all finished runs; returns the records and the ledger.

    Raises:
      UserError: no such sweep, a driver is at work in it, or its ledger is damaged.
    """
    read_json(out / SWEEP, "sweep state")  # before the lock, whose file would appear in a folder that is not a sweep
    with Lock(out / LOCK, 0.0, f"--out {out}: a driver is running this sweep and collects it: try again later"):
        state = read_json(out / SWEEP, "sweep state")  # again: a driver that has just ended may have changed it
        observe(out, state["runs"])
        fetch_results(out)
        done = [out / RUNS / record["id"] for record in state["runs"] if record["status"] == "done"]
        ledger = collect(out / LEDGER, done)
        ledger.write_parquet(out / "ledger.parquet")
        write_json(out / SWEEP, state)
    return state["runs"], ledger


def _note(out: pathlib.Path, name: str) -> str:
    """The last line of a run's output, here or in a job."""
    log = out / RUNS / name / OUTPUT
    if not log.is_file() and name in (logs := _logs(out)):
        log = _newest(*logs[name]) or log
    return latest_line(log, out / RUNS / name)


def _logs(out: pathlib.Path) -> dict[str, tuple[pathlib.Path, str]]:
    """run id -> folder and name pattern of the logs of the job that it was last submitted as."""
    logs = {}
    for file in sorted(out.glob(f"{LAUNCHES}/*/{LAUNCH}"), key=lambda file: int(file.parent.name)):
        runs = read_json(file, "record of a launch")["settings"].get("runs", [])
        for number, name in enumerate(runs):
            logs[name] = (file.parent, f"slurm-*_{number}.txt" if len(runs) > 1 else "slurm-*.txt")
    return logs


def _newest(folder: pathlib.Path, pattern: str) -> pathlib.Path | None:
    return max(folder.glob(pattern), key=lambda file: file.stat().st_mtime, default=None)


def _ended(log: pathlib.Path) -> dict[str, Any]:
    """How the job behind ``log`` ended; empty where it did not end, or the log does not say."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    code = _EXIT.search(lines[-1]) if lines else None
    if code is None:
        return {}
    if int(code[1]) == Preempted.exit_code:
        return {"status": "interrupted", "cause": "stopped, and queued again", "exit_code": Preempted.exit_code}
    last = next((line for line in reversed(lines) if line.startswith("alp: ")), lines[-1])
    return {"status": "failed", "cause": f"status {code[1]}: {last[:300]}", "exit_code": int(code[1])}
