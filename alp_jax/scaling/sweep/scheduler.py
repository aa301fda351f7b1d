"""What became of runs that a scheduler does: told by their folders and by the logs of its jobs."""

import pathlib
import re
import time
from typing import Any

from alp_jax.core.files import read_json
from alp_jax.scaling.sweep.child import latest_line

_LEASE_S = 60.0  # a run renews its lease several times in that
_EXIT = re.compile(r"exit code (\d+)\s*$", re.IGNORECASE)  # of srun: "srun: error: n1: task 0: Exited with exit code 2"
_STOPPED = "42"


def observe(out: pathlib.Path, records: list[dict[str, Any]]) -> None:
    """Brings the ``records`` of a sweep folder up to date with what runs that were submitted have done since.

    Finished is what left ``DONE``; at work what holds a fresh lease; failed what SLURM says has ended with anything but
    42, with the run's own last words as the cause. Records of runs that a driver here has done stay as they are.
    """
    logs = _logs(out)
    for record in records:
        folder = out / "runs" / record["id"]
        if (folder / "DONE").is_file():
            record.update(status="done", cause="", exit_code=0)
        elif record["id"] not in logs:
            continue
        elif _leased(folder):
            record.update(status="running", cause="")
        elif (log := _newest(*logs[record["id"]])) is not None:
            record.update(_ended(log))


def note(out: pathlib.Path, name: str) -> str:
    """The last thing that a run said, here or in a job."""
    log = out / "runs" / name / "output.txt"
    if not log.is_file() and name in (logs := _logs(out)):
        log = _newest(*logs[name]) or log
    return latest_line(log, out / "runs" / name)


def _logs(out: pathlib.Path) -> dict[str, tuple[pathlib.Path, str]]:
    """run id -> folder and name pattern of the logs of the job that it was last submitted as."""
    found = {}
    for file in sorted(out.glob("launch/*/launch.json"), key=lambda file: int(file.parent.name)):
        runs = read_json(file, "record of a launch")["settings"].get("runs", [])
        for number, name in enumerate(runs):
            found[name] = (file.parent, f"slurm-*_{number}.txt" if len(runs) > 1 else "slurm-*.txt")
    return found


def _newest(folder: pathlib.Path, pattern: str) -> pathlib.Path | None:
    return max(folder.glob(pattern), key=lambda file: file.stat().st_mtime, default=None)


def _leased(folder: pathlib.Path) -> bool:
    try:
        return time.time() - (folder / ".lease").stat().st_mtime < _LEASE_S
    except FileNotFoundError:
        return False


def _ended(log: pathlib.Path) -> dict[str, Any]:
    """How the job behind ``log`` ended: nothing where it has not, or does not say."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    code = _EXIT.search(lines[-1]) if lines else None
    if code is None:
        return {}
    if code[1] == _STOPPED:
        return {"status": "interrupted", "cause": "stopped, and queued again", "exit_code": 42}
    said = next((line for line in reversed(lines) if line.startswith("alp: ")), lines[-1])
    return {"status": "failed", "cause": f"status {code[1]}: {said[:300]}", "exit_code": int(code[1])}
