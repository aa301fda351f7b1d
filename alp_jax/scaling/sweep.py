"""The sweep driver: each run exactly once, whatever happens to a run or to the driver."""

import collections
import dataclasses
import heapq
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from alp_jax.core.errors import AlpError, UserError
from alp_jax.core.files import read_json, write_json
from alp_jax.core.progress import Progress
from alp_jax.scaling.child import Child, Lock, core_shares
from alp_jax.scaling.ledger import Ledger, collect
from alp_jax.scaling.plan import PlannedRun

FINISHED = "DONE"  # the file a run leaves when training and evaluation are complete


class Stopped(AlpError):
    """The driver was asked to stop; the child has saved and ended, the same command goes on."""

    exit_code = 42


def train_command(run: PlannedRun, folder: pathlib.Path) -> list[str]:
    """``alp train --evaluate`` for one run; baselines of the data are computed once and shared by all runs."""
    floors = folder.parent.parent / "floors.json"
    command = [sys.executable, "-m", "alp_jax", "train", f"--workdir={folder}", "--evaluate", f"--floors={floors}"]
    return [*command, f"--config={run.config}", *run.flags]


@dataclasses.dataclass
class _Active:
    """A run at work: its child, the cores lent to it, seconds of earlier attempts and those this one may take."""

    run: PlannedRun
    child: Child
    cores: frozenset[int] | None
    before: float
    expected_s: float


class Sweep:
    """The state of one sweep folder: ``runs/<id>``, ``sweep.json``, ``ledger.jsonl``, ``ledger.csv``.

    ``sweep.json`` tells what was planned and how every attempt ended; whether a run is finished is told by its own
    ``DONE`` alone. Runs go one after another, or ``parallel`` at a time on CPU, each on its share of the cores: a
    small model cannot keep several cores busy.

    Raises:
      UserError: the folder holds another sweep, another driver is at work in it, or there are too few cores.
    """

    def __init__(
        self,
        name: str,
        runs: list[PlannedRun],
        out: str | pathlib.Path,
        command: Callable[[PlannedRun, pathlib.Path], list[str]] = train_command,
        grace_s: float = 120.0,
        parallel: int = 1,
    ):
        self.out, self.runs, self.name = pathlib.Path(out), runs, name
        self._command, self._grace_s, self._signal = command, grace_s, 0
        self._shares = core_shares(parallel)
        self._records: dict[str, dict[str, Any]] = {}
        before: dict[str, Any] = {"name": name, "seconds": 0.0, "runs": []}
        if (self.out / "sweep.json").exists():
            before = read_json(self.out / "sweep.json", "sweep state")
        if before["name"] != name:
            raise UserError(f"--out {self.out} holds sweep {before['name']!r}, not {name!r}: choose another folder")
        self._seconds_before, self._began = before["seconds"], time.monotonic()
        known = {record["id"]: record for record in before["runs"]}
        for run in runs:
            fresh = {"status": "waiting", "attempts": 0, "exit_code": None, "cause": "", "seconds": 0.0}
            fixed = {"id": run.id, "kind": run.kind, "command": command(run, self.folder(run))[1:]}
            self._records[run.id] = fresh | known.get(run.id, {}) | fixed
        self._look()

    def folder(self, run: PlannedRun) -> pathlib.Path:
        return self.out / "runs" / run.id

    def finished(self, run: PlannedRun) -> bool:
        return (self.folder(run) / FINISHED).is_file()

    def _look(self) -> None:
        for run in self.runs:
            if self.finished(run):
                self._records[run.id].update(status="done", cause="", exit_code=0)

    def record(self, run: PlannedRun) -> dict[str, Any]:
        return self._records[run.id]

    def expected_seconds(self, run: PlannedRun) -> float:
        """What the sweep file expects (0 where it does not say), corrected by what finished runs of the kind took."""
        records = {other: self._records[other.id] for other in self.runs if other.kind == run.kind}
        same = {other: r["seconds"] for other, r in records.items() if r["status"] == "done" and r["seconds"] > 0}
        stated, mine = sum(other.seconds or 0.0 for other in same), run.seconds or 0.0
        return mine * sum(same.values()) / stated if stated else mine

    def seconds_left(self, waiting: Iterable[PlannedRun], active: Iterable[_Active] = ()) -> float:
        """Until the last run ends, if every run takes what is expected and begins as soon as a place is free."""
        ends = [max(one.expected_s - one.child.seconds(), 0.0) for one in active]
        ends += [0.0] * (len(self._shares) - len(ends))
        heapq.heapify(ends)
        for run in waiting:
            heapq.heapreplace(ends, ends[0] + self.expected_seconds(run))
        return max(ends)

    def run(self, selected: list[PlannedRun]) -> dict[str, Any]:
        """Runs what of ``selected`` is not finished, collects the ledger and returns the counts by status.

        Raises:
          Stopped: SIGINT or SIGTERM arrived; the children have been stopped and waited for.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        taken = f"--out {self.out}: another driver is running this sweep"
        # an orphan of a killed driver may still be saving: its lock is free when it has ended
        left_over = f"--out {self.out}: the last run of an earlier driver is still at work; stop it or try again later"
        with Lock(self.out / ".lock", 0.0, taken), Lock(self.out / ".child.lock", self._grace_s, left_over) as child:
            self._look()  # only now: an orphan may have finished its run since this driver began
            todo = [run for run in selected if not self.finished(run)]
            handlers = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                with Progress("sweep", len(todo), "runs") as progress:
                    self._all(collections.deque(todo), progress, child.fd)
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, handler)
                ledger = self._collect()
                self._save()
        statuses = [self._records[run.id]["status"] for run in todo]
        failed = [run.id for run in todo if self._records[run.id]["status"] == "failed"]
        return {
            "done": statuses.count("done"),
            "failed": len(failed),
            "skipped": len(selected) - len(todo),
            "failures": {name: self._records[name]["cause"] for name in failed},
            "ledger_rows": len(ledger.table()),
            "ledger_problems": ledger.problems,
            "seconds": round(time.monotonic() - self._began, 1),
        }

    def _collect(self) -> Ledger:
        return collect(self.out / "ledger.jsonl", [self.folder(run) for run in self.runs if self.finished(run)])

    def _all(self, waiting: collections.deque[PlannedRun], progress: Progress, lock_fd: int) -> None:
        free, active, interrupted = list(self._shares), [], []
        while active or (waiting and not self._signal):
            while waiting and free and not self._signal:
                active.append(self._start(waiting.popleft(), free.pop(0), lock_fd))
            active[0].child.wait(0.2)
            if self._signal:
                for one in active:
                    one.child.ask_to_stop()
            for one in list(active):
                status = one.child.stop(self._grace_s) if self._signal else one.child.wait(0.0)
                if status is not None:
                    active.remove(one)
                    free.append(one.cores)
                    ended = self._end(one, status)
                    if ended == "interrupted":
                        interrupted.append(one.run.id)
                    progress.update(1, f"{one.run.id}  {ended}", self.seconds_left(waiting, active))
            width = 120 // max(len(active), 1)
            note = "   ".join(f"{one.run.id}  {one.child.last_line()}"[:width] for one in active)
            progress.update(0, note, self.seconds_left(waiting, active))
        if self._signal:
            where = f"in run {' and '.join(interrupted)}" if interrupted else "between runs"
            raise Stopped(f"sweep stopped by signal {self._signal} {where}; the same command goes on")

    def _start(self, run: PlannedRun, cores: frozenset[int] | None, lock_fd: int) -> _Active:
        record = self._records[run.id]
        record.update(status="running", attempts=record["attempts"] + 1, exit_code=None, cause="")
        self._save()
        log = self.folder(run) / "output.txt"
        child = Child(self._command(run, self.folder(run)), log, lock_fd, cores)
        return _Active(run, child, cores, record["seconds"], max(self.expected_seconds(run) - record["seconds"], 0.0))

    def _end(self, one: _Active, status: int) -> str:
        """Writes down how a run ended."""
        record = self._records[one.run.id]
        record.update(seconds=round(one.before + one.child.seconds(), 3), exit_code=status)
        if status == 0 and self.finished(one.run):
            record.update(status="done")
            self._collect()
        elif self._signal:
            record.update(status="interrupted", cause=f"stopped by signal {self._signal}")
        else:
            record.update(status="failed", cause=_cause(status, one.child.last_line()))
        self._save()
        return record["status"]

    def _on_signal(self, number: int, frame) -> None:
        self._signal = number

    def _save(self) -> None:
        seconds = round(self._seconds_before + time.monotonic() - self._began, 3)
        state = {"name": self.name, "seconds": seconds, "runs": list(self._records.values())}
        write_json(self.out / "sweep.json", state)


def _cause(status: int, line: str) -> str:
    if status < 0:
        name = signal.Signals(-status).name
        hint = " (out of memory is a common cause)" if name == "SIGKILL" else ""
        return f"ended by signal {name}{hint}; last line: {line}"
    if status == 0:
        return f"ended with status 0 but left no {FINISHED}; last line: {line}"
    return f"status {status}: {line}"
