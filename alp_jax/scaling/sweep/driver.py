"""The sweep driver: does each run exactly once, whatever happens to a run or to the driver."""

import collections
import dataclasses
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from alp_jax.core import storage
from alp_jax.core.errors import AlpError, Preempted, UserError
from alp_jax.core.files import read_json, write_json
from alp_jax.core.run_files import DONE, FLOORS, LEDGER, LOCK, OUTPUT, RUNS, SWEEP, is_done
from alp_jax.scaling.sweep.child import Child, Lock, Slot
from alp_jax.scaling.sweep.folder import fetch_results, run_home
from alp_jax.scaling.sweep.forecast import (
    Budget,
    Forecast,
    Hardware,
    Outlook,
    RunEstimate,
    check_budget,
    check_disk,
    folder_bytes,
)
from alp_jax.scaling.sweep.ledger import Ledger, collect
from alp_jax.scaling.sweep.plan import PlannedRun
from alp_jax.scaling.sweep.status_table import StatusTable

_FRESH = {"status": "waiting", "attempts": 0, "exit_code": None, "cause": "", "seconds": 0.0, "bytes": 0, "since": 0.0}


class OverBudget(AlpError):
    """Finished runs took so much that the rest would exceed the budget; no other run was started."""


def train_command(run: PlannedRun, folder: storage.Location) -> list[str]:
    """``alp train --evaluate`` for one run; results that need no encoder are computed once and shared by all runs."""
    floors = storage.join(os.fspath(folder).rsplit("/", 2)[0], FLOORS)
    command = [sys.executable, "-m", "alp_jax", "train", f"--workdir={folder}", "--evaluate", f"--floors={floors}"]
    return [*command, f"--config={run.config}", *run.flags]


@dataclasses.dataclass
class _Active:
    """A run in progress: its child process, its slot, seconds of earlier attempts and those this one may take."""

    run: PlannedRun
    child: Child
    slot: Slot
    before: float
    expected_s: float | None

    def times(self) -> tuple[float, float | None]:
        """Seconds since this attempt began, and until it ends if it takes as long as expected."""
        gone = self.child.seconds()
        return gone, None if self.expected_s is None else max(self.expected_s - gone, 0.0)


class Sweep:
    """The state of one sweep folder: ``runs/<id>``, ``sweep.json``, ``ledger.jsonl``, ``ledger.csv``.

    ``sweep.json`` says what was planned and how every attempt ended; only a run's own ``DONE`` says that it is
    finished. Each of ``slots`` does one run at a time; a small model cannot keep several cores busy, so slots may be
    shares of the cores, or GPUs.

    Args:
      estimates: of runs by id, as far as they are known.
      devices: held by each run. rate: operations per second (FLOP/s) expected of one device, None: unknown.
      budget: what may be spent, see ``check``.
      missing: a line for each input of the runs that is not there.

    Raises:
      UserError: the folder holds another sweep.
    """

    def __init__(
        self,
        name: str,
        runs: list[PlannedRun],
        out: str | pathlib.Path,
        command: Callable[[PlannedRun, storage.Location], list[str]] = train_command,
        *,
        grace_s: float = 120.0,
        slots: Sequence[Slot] = (Slot(),),
        estimates: Mapping[str, RunEstimate] | None = None,
        devices: int = 1,
        rate: float | None = None,
        budget: Budget | None = None,
        missing: Sequence[str] = (),
    ):
        self.out, self.runs, self.name, self.missing = pathlib.Path(out), runs, name, missing
        self._command, self._grace_s, self._slots = command, grace_s, list(slots)
        self._budget, self._signal, self._excess = budget or Budget(), 0, ""
        before: dict[str, Any] = {"name": name, "seconds": 0.0, "runs": []}
        if (self.out / SWEEP).exists():
            before = read_json(self.out / SWEEP, "sweep state")
        if before["name"] != name:
            raise UserError(f"--out {self.out} holds sweep {before['name']!r}, not {name!r}: choose another folder")
        self._seconds_before, self._began = before["seconds"], time.monotonic()
        known = {record["id"]: record for record in before["runs"]}
        self._records: dict[str, dict[str, Any]] = {}
        for run in runs:
            fixed = {"id": run.id, "kind": run.kind, "command": command(run, self.home(run))[1:]}
            self._records[run.id] = _FRESH | known.get(run.id, {}) | fixed
            self._mend(self._records[run.id], self.folder(run) / OUTPUT)
        hardware = Hardware(len(self._slots), devices, rate)
        self._forecast = Forecast(runs, self._records, estimates or {}, hardware)
        self._look()

    def folder(self, run: PlannedRun) -> pathlib.Path:
        """The folder of a run."""
        return self.out / RUNS / run.id

    def home(self, run: PlannedRun) -> storage.Location:
        """Where it writes: ``folder``, or its place in an object store."""
        return run_home(self.out, run.id)

    def finished(self, run: PlannedRun) -> bool:
        """Whether the run has left its marker of success."""
        return is_done(self.home(run))

    @staticmethod
    def _mend(record: dict[str, Any], output: pathlib.Path) -> None:
        """Corrects a run left as running when its driver was killed: it worked at least until its last output."""
        if record["status"] == "running":
            spent = max(output.stat().st_mtime - record["since"], 0.0) if output.exists() else 0.0
            record.update(status="interrupted", cause="its driver was killed", seconds=record["seconds"] + spent)

    def _look(self) -> None:
        for run in self.runs:
            if self.finished(run) and self.record(run)["status"] != "done":
                stored = self._stored(run)
                self.record(run).update(status="done", cause="", exit_code=0, bytes=stored)

    def record(self, run: PlannedRun) -> dict[str, Any]:
        """The record of a run, as ``sweep.json`` holds it; changes to it are kept."""
        return self._records[run.id]

    def outlook(self, selected: Iterable[PlannedRun]) -> Outlook:
        """What has been spent, and what the unfinished runs of ``selected`` will take."""
        return self._forecast.outlook(run for run in selected if not self.finished(run))

    def check(self, selected: Iterable[PlannedRun], *, disk: bool = True) -> None:
        """Raises UserError where budget or (``disk``) disk do not suffice for ``selected``, or that cannot be told."""
        outlook = self.outlook(selected)
        check_budget(outlook, self._budget)
        if disk and isinstance(self.home(self.runs[0]), pathlib.Path):
            check_disk(outlook, self.out)

    def hand_over(self, selected: Iterable[PlannedRun]) -> None:
        """Marks runs for a scheduler as waiting in ``sweep.json``; UserError while a driver is at work here."""
        self.out.mkdir(parents=True, exist_ok=True)
        with Lock(self.out / LOCK, 0.0, f"--out {self.out}: another driver is running this sweep"):
            for run in selected:
                self.record(run).update(status="waiting", cause="", exit_code=None)
            self._save()

    def run(self, selected: list[PlannedRun]) -> dict[str, Any]:
        """Does the unfinished runs of ``selected``, updates the ledger and returns the counts by status.

        Raises:
          UserError: another driver is at work in the folder, its ledger is damaged, or ``check`` refuses.
          Preempted: SIGINT or SIGTERM arrived; the children have been stopped and waited for.
          OverBudget: finished runs took so much more than expected that the rest would exceed the budget.
        """
        self.check(selected)
        self.out.mkdir(parents=True, exist_ok=True)
        taken = f"--out {self.out}: another driver is running this sweep"
        # A run whose driver was killed may still be saving. It holds the second lock until it ends, which is why that
        # lock is taken before anything is looked at.
        left_over = f"--out {self.out}: the last run of an earlier driver is still running; stop it or try again later"
        with Lock(self.out / LOCK, 0.0, taken), Lock(self.out / ".child.lock", self._grace_s, left_over) as child:
            self._look()  # only now: an orphan may have finished its run since this driver began
            self._collect()
            todo = [run for run in selected if not self.finished(run)]
            todo.sort(key=lambda run: self.record(run)["status"] == "failed")  # runs that failed before come last
            handlers = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                self._all(collections.deque(todo), [self.record(run) for run in selected], child.fd)
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

    def _stored(self, run: PlannedRun) -> int:
        home = self.home(run)
        return folder_bytes(home) if isinstance(home, pathlib.Path) else sum(storage.tree(home).values())

    def _collect(self) -> Ledger:
        fetch_results(self.out)
        return collect(self.out / LEDGER, [self.folder(run) for run in self.runs if self.finished(run)])

    def _all(self, waiting: collections.deque[PlannedRun], asked: list[dict[str, Any]], lock_fd: int) -> None:
        free, active, interrupted, table = list(self._slots), [], [], StatusTable()
        while active or (waiting and not self._signal and not self._excess):
            while waiting and free and not self._signal and not self._excess:
                active.append(self._start(waiting.popleft(), free.pop(0), lock_fd))
            active[0].child.wait(0.2)  # paces the loop: the others are only polled
            if self._signal:
                for one in active:
                    one.child.ask_to_stop()
            ended = False
            for one in list(active):
                status = one.child.stop(self._grace_s) if self._signal else one.child.wait(0.0)
                if status is not None:
                    ended = True
                    active.remove(one)
                    free.append(one.slot)
                    if self._end(one, status) == "interrupted":
                        interrupted.append(one.run.id)
            outlook = self._forecast.outlook(waiting, [one.times() for one in active])
            if ended and waiting:
                self._excess = outlook.excess(self._budget) or ""
            notes = {one.run.id: one.child.note()[:120] for one in active}
            spent = {one.run.id: {"seconds": one.before + one.child.seconds()} for one in active}
            state = [record | spent.get(record["id"], {}) for record in asked]
            table.show(state, notes, outlook, now=ended and not active and not waiting)
        if self._signal:
            where = f"in run {' and '.join(interrupted)}" if interrupted else "between runs"
            raise Preempted(f"sweep stopped by signal {self._signal} {where}; the same command resumes it")
        if self._excess:
            raise OverBudget(
                f"stopped before {waiting[0].id}: by what finished runs took, {self._excess}; raise the budget and the "
                "same command resumes"
            )

    def _start(self, run: PlannedRun, slot: Slot, lock_fd: int) -> _Active:
        record = self._records[run.id]
        expected = self._forecast.seconds(run)
        record.update(
            status="running", attempts=record["attempts"] + 1, exit_code=None, cause="", since=round(time.time(), 3)
        )
        self._save()
        child = Child(self._command(run, self.home(run)), self.folder(run) / OUTPUT, lock_fd, slot)
        before = record["seconds"]
        return _Active(run, child, slot, before, None if expected is None else max(expected - before, 0.0))

    def _end(self, one: _Active, status: int) -> str:
        """Writes down how a run ended."""
        record = self._records[one.run.id]
        record.update(seconds=round(one.before + one.child.seconds(), 3), exit_code=status)
        record.update(bytes=self._stored(one.run))
        if status == 0 and self.finished(one.run):  # both: a run that ends well without its ``DONE`` has failed
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
        write_json(self.out / SWEEP, state)


def _cause(status: int, line: str) -> str:
    if status < 0:
        name = signal.Signals(-status).name
        hint = " (out of memory is a common cause)" if name == "SIGKILL" else ""
        return f"ended by signal {name}{hint}; last line: {line}"
    if status == 0:
        return f"ended with status 0 but left no {DONE}; last line: {line}"
    return f"status {status}: {line}"
