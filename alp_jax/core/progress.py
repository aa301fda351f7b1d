"""Progress with an estimated time of arrival on standard error, for people and for log files."""

import sys
import time


def clock(seconds: float) -> str:
    """``75`` -> ``1:15``; ``3700`` -> ``1:01:40``."""
    seconds = max(0, round(seconds))
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


class Progress:
    """Counts units of work and prints one line at most every ``interval_s`` seconds.

    On a terminal the line is rewritten in place; elsewhere it is a new line, less often.

    Args:
      label: what is being done: ``build shards``.
      total: number of units, or None when unknown.
      unit: name of a unit, plural: ``clips``.
    """

    def __init__(self, label: str, total: int | None, unit: str = "items", stream=None):
        self.label, self.total, self.unit = label, total, unit
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._interval_s = 0.2 if self._live else 5.0
        self._start = self._last = time.monotonic()
        self.done = 0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def update(self, n: int = 1, note: str = "", eta_s: float | None = None) -> None:
        """Adds ``n`` finished units; ``note`` ends the line; ``eta_s`` is for units that differ in length."""
        self.done += n
        if time.monotonic() - self._last >= self._interval_s:
            self._print(note, eta_s)

    def _print(self, note: str, eta_s: float | None = None) -> None:
        self._last = time.monotonic()
        elapsed = self._last - self._start
        count = f"{self.done}/{self.total}" if self.total else str(self.done)
        eta = ""
        if eta_s is not None:
            eta = f"  ETA {clock(eta_s)}"
        elif self.total and self.done:
            eta = f"  ETA {clock(elapsed / self.done * (self.total - self.done))}"
        line = f"{self.label}: {count} {self.unit}  {clock(elapsed)}{eta}{'  ' + note if note else ''}"
        self._stream.write(f"\r{line:<100}" if self._live else line + "\n")
        self._stream.flush()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exc) -> None:
        if exc[0] is not None and not self.done:
            return  # nothing was begun: the error says it all
        self._print("done" if exc[0] is None else "stopped")
        if self._live:
            self._stream.write("\n")
