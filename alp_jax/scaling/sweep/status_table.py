"""The live table of a sweep: what every run is doing, for a terminal or for a log file."""

import datetime
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from alp_jax.core.pace import clock, duration
from alp_jax.core.progress import LINE_S
from alp_jax.core.progress_bar import columns, is_terminal, show
from alp_jax.scaling.sweep.forecast import GB, Outlook
from alp_jax.scaling.sweep.plan import PlannedRun

_ORDER = ("running", "failed", "interrupted", "waiting", "done")  # the most urgent first


def describe(outlook: Outlook) -> str:
    """``1 h 20 min to go, until Mon 14:05; 3.1 device-hours (0.5 spent); 2.4 GB (0.3 there)``, or what is unknown."""
    if outlook.seconds is None:
        finish = "time left unknown until a run has ended"
    else:
        end = datetime.datetime.now().astimezone() + datetime.timedelta(seconds=outlook.seconds)
        finish = f"{duration(outlook.seconds)} to go, until {end:%a %d %b %H:%M}"
    total = "unknown" if outlook.hours is None else f"{outlook.spent_hours + outlook.hours:.3g}"
    size = "unknown" if outlook.bytes is None else f"{(outlook.stored + outlook.bytes) / GB:.3g}"
    return (
        f"{finish}; {total} device-hours ({outlook.spent_hours:.3g} spent); {size} GB ({outlook.stored / GB:.3g} there)"
    )


def table_lines(
    records: Sequence[Mapping[str, Any]], notes: Mapping[str, str], width: int, most: int | None = None
) -> list[str]:
    """A header and a line per run, running ones first; of at most ``most`` lines, the last counts what is left out.

    Args:
      records: of a ``Sweep``. notes: run id -> its latest line; without one, why it ended is shown.
    """
    ordered = sorted(records, key=lambda record: _ORDER.index(record["status"]))
    names = max((len(record["id"]) for record in records), default=3)
    lines = [f"{'run':<{names}}  {'status':<11} {'tries':>5} {'time':>8}  note"]
    for record in ordered:
        note = notes.get(record["id"]) or record["cause"]
        time_text = clock(record["seconds"]) if record["seconds"] else ""
        lines.append(f"{record['id']:<{names}}  {record['status']:<11} {record['attempts']:>5} {time_text:>8}  {note}")
    if most is not None and len(lines) > most:
        lines = [*lines[: most - 1], f"and {len(lines) - most + 1} more"]
    return [line[:width].rstrip() for line in lines]


def plan_text(
    runs: Sequence[PlannedRun],
    selected: Sequence[PlannedRun],
    record: Callable[[PlannedRun], Mapping[str, Any]],
    outlook: Outlook,
    missing: Sequence[str],
) -> str:
    """A header, a line for each of ``selected`` with what tells it from other runs, what they take, what is missing."""
    width = max(len(run.id) for run in selected)
    # settings that differ between runs, except lengths and costs
    keys = dict.fromkeys(key for run in runs for key in run.overrides if key not in ("config.train.steps", "seconds"))
    varied = [key for key in keys if len({repr(run.overrides.get(key)) for run in runs}) > 1]
    lines = [f"{'run':<{width}}  {'steps':>8}  status   what it is"]
    for run in selected:
        own = [f"{key.removeprefix('config.')}={run.overrides[key]}" for key in varied if key in run.overrides]
        steps = run.settings["train"]["steps"]
        lines.append(f"{run.id:<{width}}  {steps:>8}  {record(run)['status']:<8} {'  '.join(own)}")
    return "\n".join([*lines, f"{len(selected)} runs; {describe(outlook)}", *missing_lines(missing)])


def missing_lines(missing: Sequence[str]) -> list[str]:
    """What to print about inputs that are not there; nothing where all are."""
    head = [f"missing here, without which nothing starts ({len(missing)}):"] if missing else []
    return head + [f"  {line}" for line in missing]


class StatusTable:
    """Prints a sweep's state: on a terminal a table that is redrawn, elsewhere one line a minute."""

    def __init__(self, stream=None):
        self._stream = stream or sys.stderr
        self._live = is_terminal(self._stream)
        self._interval_s = 1.0 if self._live else LINE_S
        self._began, self._last, self._drawn = time.monotonic(), float("-inf"), 0

    def show(
        self, records: Sequence[Mapping[str, Any]], notes: Mapping[str, str], outlook: Outlook, *, now: bool = False
    ) -> None:
        """Draws, if it is time to or ``now`` is set. ``records``: of the runs that were asked for."""
        if not now and time.monotonic() - self._last < self._interval_s:
            return
        self._last = time.monotonic()
        statuses = [record["status"] for record in records]
        counts = ", ".join(f"{statuses.count(name)} {name}" for name in _ORDER if name in statuses)
        head = f"sweep: {counts}; {duration(self._last - self._began)} elapsed"
        if self._live:
            width = columns(self._stream)
            table = table_lines(records, notes, width, max(_rows(self._stream) - 3, 3))
            lines = [head[:width], describe(outlook)[:width], *table]
            up = f"\x1b[{self._drawn}F\x1b[J" if self._drawn else ""
            show(up + "\n".join(lines) + "\n", self._stream)
            self._drawn = len(lines)
        else:
            at_work = "   ".join(f"{name}  {note}" for name, note in notes.items())
            show(f"{head}; {describe(outlook)}{'  ' + at_work if at_work else ''}"[:400] + "\n", self._stream)


def _rows(stream) -> int:
    """How many lines a terminal has; 24 where it does not say."""
    try:
        return os.get_terminal_size(stream.fileno()).lines or 24
    except (OSError, ValueError):
        return 24
