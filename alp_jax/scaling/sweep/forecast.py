"""What a sweep will take: seconds, device-hours and bytes, first by estimate, then by what its own runs took."""

import dataclasses
import heapq
import pathlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alp_jax.core.errors import UserError
from alp_jax.scaling.sweep.plan import PlannedRun

HOUR, GB = 3600.0, 1e9


@dataclasses.dataclass(frozen=True)
class RunEstimate:
    """What one run takes, from its configuration.

    Attributes:
      flops: operations of training.
      bytes: of the checkpoints it keeps.
      missing: a line for each of its inputs that is not there.
    """

    flops: float
    bytes: float
    missing: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Hardware:
    """Where runs go: ``slots`` at a time with ``devices`` each, of ``rate`` operations a second (None: unknown)."""

    slots: int = 1
    devices: int = 1
    rate: float | None = None


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a sweep may take in total, earlier attempts included; None: as much as it needs."""

    device_hours: float | None = None
    gb: float | None = None

    def __post_init__(self):
        for flag, value in (("budget_device_hours", self.device_hours), ("budget_gb", self.gb)):
            if value is not None and not 0 <= value < float("inf"):
                raise UserError(f"--{flag} {value} must be 0 or more")


@dataclasses.dataclass(frozen=True)
class Outlook:
    """Seconds until the last run ends; device-hours and bytes, spent and still to come. None: unknown."""

    seconds: float | None
    spent_hours: float
    hours: float | None
    stored: float
    bytes: float | None

    def excess(self, budget: Budget) -> str | None:
        """How ``budget`` will be exceeded, in words; None if it will not."""
        total = None if self.hours is None else self.spent_hours + self.hours
        if budget.device_hours is not None and total is not None and total > budget.device_hours:
            return (
                f"{total:.4g} device-hours ({self.spent_hours:.4g} of them spent) are more than "
                f"--budget_device_hours {budget.device_hours:g}"
            )
        if budget.gb is not None and self.bytes is not None and self.stored + self.bytes > budget.gb * GB:
            return f"{(self.stored + self.bytes) / GB:.4g} GB are more than --budget_gb {budget.gb:g}"
        return None


class Forecast:
    """What the runs of one sweep will take; it reads their ``records`` (see ``Sweep``) anew on every call.

    A run's seconds are those that the sweep file states, else its operations at the hardware's rate. Both are scaled by
    what finished runs of the same kind took in total, which is all there is where no rate is known. Bytes likewise.
    """

    def __init__(
        self,
        runs: list[PlannedRun],
        records: Mapping[str, Mapping[str, Any]],
        estimates: Mapping[str, RunEstimate],
        hardware: Hardware,
    ):
        self._runs, self._records, self._estimates, self._hardware = runs, records, estimates, hardware

    def seconds(self, run: PlannedRun) -> float | None:
        """How long ``run`` takes from start to end; None while that is unknown."""
        weight, in_seconds = self._weight(run)
        if weight is None:
            return None
        like = [other for other in self._finished(run.kind) if self._weight(other)[1] == in_seconds]
        pairs = [(self._records[other.id]["seconds"], self._weight(other)[0]) for other in like]
        pairs = [(spent, expected) for spent, expected in pairs if spent > 0 and expected]
        if pairs:
            return weight * sum(spent for spent, _ in pairs) / sum(expected for _, expected in pairs)
        return weight if in_seconds else None

    def bytes(self, run: PlannedRun) -> float | None:
        """The size that the folder of ``run`` will have; None while that is unknown."""
        estimate = self._estimates.get(run.id)
        if estimate is None:
            return None
        finished = [other for other in self._finished(run.kind) if other.id in self._estimates]
        stored = sum(self._records[other.id]["bytes"] for other in finished)
        expected = sum(self._estimates[other.id].bytes for other in finished)
        return estimate.bytes * stored / expected if stored and expected else estimate.bytes

    def until_end(self, waiting: Iterable[PlannedRun], left: Iterable[float | None] = ()) -> float | None:
        """Seconds until the last run ends, each beginning as soon as a slot is free.

        ``left``: seconds that the runs at work still need.
        """
        ends, durations = list(left), [self.seconds(run) for run in waiting]
        if None in ends or None in durations:
            return None
        ends += [0.0] * (self._hardware.slots - len(ends))  # idle slots are free at once
        heapq.heapify(ends)
        for duration in durations:
            heapq.heapreplace(ends, ends[0] + duration)
        return max(ends)

    def outlook(self, waiting: Iterable[PlannedRun], working: Iterable[tuple[float, float | None]] = ()) -> Outlook:
        """The outlook with runs ``waiting`` and ``working``: (seconds since one began, seconds until it ends)."""
        waiting, gone, left = list(waiting), [], []
        for since, until in working:
            gone.append(since)
            left.append(until)
        scale = self._hardware.devices / HOUR
        spent = (sum(record["seconds"] for record in self._records.values()) + sum(gone)) * scale
        durations = [*left, *(self.seconds(run) for run in waiting)]
        hours = None if None in durations else sum(durations) * scale
        sizes = [self.bytes(run) for run in waiting]
        stored = float(sum(record["bytes"] for record in self._records.values()))
        return Outlook(self.until_end(waiting, left), spent, hours, stored, None if None in sizes else sum(sizes))

    def _finished(self, kind: str) -> list[PlannedRun]:
        return [run for run in self._runs if run.kind == kind and self._records[run.id]["status"] == "done"]

    def _weight(self, run: PlannedRun) -> tuple[float | None, bool]:
        """A number to which the duration is proportional, and whether it is the duration itself, in seconds."""
        if run.seconds is not None:
            return run.seconds, True
        estimate, hardware = self._estimates.get(run.id), self._hardware
        if estimate is None:
            return None, False
        if hardware.rate is None:
            return estimate.flops, False
        return estimate.flops / (hardware.rate * hardware.devices), True


def check_budget(outlook: Outlook, budget: Budget) -> None:
    """Refuses a sweep before anything starts.

    Raises:
      UserError: it will exceed ``budget``, or that cannot be told.
    """
    if budget.device_hours is not None and outlook.hours is None:
        raise UserError(
            "--budget_device_hours needs to know how long runs take: name --device, state 'seconds' in the sweep, or "
            "finish one run with --only first"
        )
    if budget.gb is not None and outlook.bytes is None:
        raise UserError("--budget_gb: the size of the runs is unknown")
    excess = outlook.excess(budget)
    if excess:
        raise UserError(f"{excess}: nothing was started; take fewer runs (--only) or raise the budget")


def check_disk(outlook: Outlook, out: pathlib.Path) -> None:
    """Raises UserError where the disk of ``out``, a folder that need not exist yet, has no room for the checkpoints."""
    there = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    if outlook.bytes is not None and outlook.bytes > free:
        raise UserError(
            f"--out {out}: the runs will keep {outlook.bytes / GB:.4g} GB of checkpoints and {free / GB:.4g} GB are "
            "free there: choose another folder, or keep fewer (config.train.keep)"
        )


def folder_bytes(folder: pathlib.Path) -> int:
    """Bytes of all files below ``folder``; one that disappears meanwhile does not count."""
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.lstat().st_size if not file.is_dir() else 0
        except FileNotFoundError:
            continue
    return total
