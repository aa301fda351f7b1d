"""Progress on standard error for every command: a layer over tqdm, for people at a terminal and for log files.

On a terminal a line is redrawn in place and is never wider than the screen. Elsewhere (a file, a pipe, a notebook,
TERM=dumb) there is a line after a second, one every minute, even while nothing can be counted, and one at the end; what
fails within the first second leaves only its error. The ETA (estimated time left) is based on recent work and is left
out while it is unknown.
"""

import collections
import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

from tqdm.utils import disp_len, disp_trim

from alp_jax.core.pace import duration
from alp_jax.core.progress_bar import LOCK, Bar, columns, going, is_terminal, joined, printable, show, so_far

LINE_S = 60.0  # between two lines where there is no terminal
_FIRST_S = 1.0  # until the first of them
_REDRAW_S = 0.1  # between two looks of a terminal's line
_BEAT_S = 1.0  # between two looks while nothing is counted
_WINDOW_S = 120.0  # of work that the speed rests on, and
_WINDOW_PIECES = 20  # at least this many pieces of it: batches of several lengths differ in cost
_PIECE_S = 0.5  # shorter pieces are merged: work that is done in batches is often reported unit by unit
_open: list["Progress"] = []  # the outermost first


def say(text: str, stream: TextIO | None = None) -> None:
    """Prints a line (to standard error by default) above whatever progress is shown."""
    stream, text = stream or sys.stderr, printable(text)
    with LOCK:
        if any(one.bar for one in _open):
            with contextlib.suppress(OSError, ValueError):  # as of ``show``
                Bar.write(text, file=stream)
        else:
            show(text + "\n", stream)


@contextlib.contextmanager
def stage(label: str, detail: str = "", *, quiet: bool = False, every: int = 0) -> Iterator[None]:
    """Work that is named and timed but not counted; an enclosing ``Progress`` does not charge its time to units.

    Args:
      label: what is being done: ``compiling the step``; times are summed per label.
      detail: ends the line.
      quiet: prints no lines of its own; for work that is short or frequent.
      every: repeats after this many units of the enclosing progress, so that the ETA includes what is still to come.
    """
    if _open:
        with _open[-1].beside(label, detail, quiet=quiet, every=every):
            yield
    else:
        with Progress(f"{label} {detail}".strip(), quiet=quiet):
            yield


class Pace:
    """The speed of recent work, in any unit of amount.

    The first ``add`` ends the warm-up: what came before it happens once (reading ahead, starting workers, compiling)
    and is not counted. Neither is time between ``pause`` and ``resume``.
    """

    def __init__(self) -> None:
        self._mark = time.monotonic()  # where the piece begins that is being put together
        self._warm, self._amount = False, 0.0
        self._paused: float | None = None  # since when
        self._pieces: collections.deque[tuple[float, float]] = collections.deque()  # (seconds, amount)
        self._sums = [0.0, 0.0]

    def add(self, amount: float) -> None:
        """Records the amount done since the last call."""
        now = time.monotonic()
        if not self._warm:
            self._warm, self._mark = True, now
            return
        self._amount += amount
        if now - self._mark >= _PIECE_S:
            seconds = now - self._mark
            self._pieces.append((seconds, self._amount))
            self._sums = [self._sums[0] + seconds, self._sums[1] + self._amount]
            while len(self._pieces) > _WINDOW_PIECES and self._sums[0] - self._pieces[0][0] >= _WINDOW_S:
                old = self._pieces.popleft()
                self._sums = [self._sums[0] - old[0], self._sums[1] - old[1]]
            self._mark, self._amount = now, 0.0

    def pause(self) -> None:
        """From now on, time is spent on something else."""
        self._paused = time.monotonic()

    def resume(self) -> None:
        """Ends a pause."""
        assert self._paused is not None, "no pause was begun"
        self._mark += time.monotonic() - self._paused
        self._paused = None

    def seconds_for(self, amount: float) -> float | None:
        """Seconds that ``amount`` more will take from now; None while that is unknown.

        The current piece counts too: its time so far is subtracted, and if it takes longer than usual the speed drops.
        """
        if self._sums[1] <= 0:
            return None
        now = time.monotonic() if self._paused is None else self._paused
        waited, usual = now - self._mark, self._sums[0] / len(self._pieces)
        rate = (self._sums[0] + max(waited - usual, 0.0)) / self._sums[1]
        begun = min(max(waited - self._amount * rate, 0.0), usual)
        return max(amount * rate - begun, 0.0)


class Progress:
    """Counts units of work; to be used as a context manager.

    A loop over single units that has no time to lose may set ``done`` itself, as a plain number: the thread that shows
    progress reads it once a second.

    Args:
      label: what is being done: ``build shards``.
      total: number of units, or None when unknown.
      unit: name of a unit, plural: ``clips``. None for work that has none: only its time is shown.
      initial: units done before, by an earlier process; they say nothing about the speed.
      work: the sum of what ``update`` will get as ``work``, where units differ in cost: bytes of files, say.
      alike: whether the time of some units predicts that of others; without it there is no ETA.
      quiet: only a line every minute, or on a terminal only while it lasts.
    """

    def __init__(
        self,
        label: str,
        total: int | None = None,
        unit: str | None = None,
        *,
        initial: int = 0,
        work: float | None = None,
        alike: bool = True,
        quiet: bool = False,
        stream: TextIO | None = None,
    ):
        self.label, self.total, self.unit, self.done = label, total, unit, initial
        self.values: list[str] = []  # shown after the ETA, the most important first: ``loss 2.1``
        self.bar: Bar | None = None
        self._work, self._alike, self._quiet, self._stream = work, alike, quiet, stream
        self._new = 0.0  # work that the pace was not told yet, and
        self._told = initial  # so much of ``done`` that is in it, or was before it
        self._stages: list[tuple[str, float]] = []  # what is done beside the counted work, since when; nested ones last
        self._beside: dict[str, tuple[int, float, int]] = {}  # label of a stage -> times, seconds, ``every``

    def open(self) -> "Progress":
        """Begins to show it."""
        self._stream = self._stream or sys.stderr
        with LOCK:
            self._began = self._looked = time.monotonic()
            self._due = self._began + (LINE_S if self._quiet else _FIRST_S)  # of the next line, where this is outermost
            self._pace, self._begun, self._outermost = Pace(), False, not _open
            _open.append(self)
            if is_terminal(self._stream):
                first = printable(self._head())
                self.bar = Bar(total=self.total, desc=first, bar_format="{desc}", file=self._stream)
                self._draw()
        if self._outermost:
            self._ended = threading.Event()
            self._heart = threading.Thread(target=_beat, args=(self._ended,), name="progress", daemon=True)
            self._heart.start()
        return self

    def close(self, *, failed: bool = False) -> None:
        """Shows the last line. After a failure there is none where nothing was begun: the error says it all."""
        with LOCK:
            begun = self._begun or self.done > self._told
            shown = self._outermost and not self._quiet and (begun or not failed)
            if self.unit is None:
                seconds = time.monotonic() - self._began
                shown = shown and not failed and (seconds >= 1 or self.bar is not None)
                last = f"{self.label}: took {duration(seconds)}"
            else:
                how = "stopped after" if failed else "done in"
                last = f"{self._head()}  {how} {duration(time.monotonic() - self._began)}"
                room = columns(self._stream) if self.bar is not None else None
                last = joined(last, [*self._stage_times(), *self.values], room)
            if self.bar is not None:
                self.bar.end(last, leave=shown)
            elif shown:
                self._print(last)
            _open.remove(self)
            self.bar = None
        if self._outermost:
            self._ended.set()
            self._heart.join(_BEAT_S)

    def __enter__(self) -> "Progress":
        return self.open()

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self.close(failed=kind is not None)

    def update(self, n: int = 1, note: str = "", *, work: float | None = None) -> None:
        """Adds ``n`` finished units; ``note`` is shown until there is another."""
        self.done, self._told = self.done + n, self._told + n
        self._new += n if work is None else work
        if note:
            self.values = [note]
        if not self._begun or time.monotonic() - self._looked >= _REDRAW_S:
            self._begun = True
            self.look()

    def note(self, text: str) -> None:
        """``text`` is shown until there is another; "" is none."""
        self.values = [text] if text else []
        self.look()

    def skip(self, n: int) -> None:
        """``n`` units turned out to be done already: they tell nothing about the speed."""
        self.done, self._told = self.done + n, self._told + n

    def eta_s(self) -> float | None:
        """Seconds until the last unit at the speed of recent ones, repeated stages included; None: not known (yet)."""
        if self.total is None or not self._alike:
            return None
        with LOCK:
            self._tell_pace()
            left = self.total - self.done if self._work is None else self._work
            seconds = self._pace.seconds_for(max(left, 0))
            if seconds is None:
                return None
            repeated = [one for one in self._beside.values() if one[2]]
        for times, spent, every in repeated:
            seconds += spent / times * (-(-self.total // every) - self.done // every)
        return seconds

    @contextlib.contextmanager
    def beside(self, label: str, detail: str = "", *, quiet: bool = False, every: int = 0) -> Iterator[None]:
        """See ``stage``."""
        named, began = f"{label} {detail}".strip(), time.monotonic()
        with LOCK:
            self._tell_pace()
            if not self._stages:
                self._pace.pause()
            self._stages.append((named, began))
            self._draw()
            if self.bar is None and not quiet:
                _open[0]._due = min(_open[0]._due, began + _FIRST_S)
        try:
            yield
        finally:
            with LOCK:
                seconds = time.monotonic() - began
                self._stages.pop()
                if not self._stages:
                    self._pace.resume()
                times, spent, _ = self._beside.get(label, (0, 0.0, 0))
                self._beside[label] = times + 1, spent + seconds, every
                if not quiet and seconds >= 1:
                    text = f"{self.label}: {named} took {duration(seconds)}"
                    if self.bar is not None:
                        say(disp_trim(printable(text), columns(self._stream)), self._stream)
                    else:
                        self._print(text)
                self._draw()

    def look(self) -> None:
        """Shows how far it is, if it is time to."""
        with LOCK:
            if self in _open:
                self._tell_pace()
                if self.bar is not None:
                    self._draw()
                elif time.monotonic() >= _open[0]._due:
                    self._print("; ".join(one.line() for one in _open))

    def _tell_pace(self) -> None:
        self._looked, done = time.monotonic(), self.done
        self._begun = self._begun or done > self._told
        self._new, self._told = self._new + done - self._told, done
        if self._new and not self._stages:
            self._pace.add(self._new)
            if self._work is not None:
                self._work -= self._new
            self._new = 0.0

    def line(self) -> str:
        """Everything there is to say, as in a log file."""
        if self.unit is None:
            return "; ".join([going(self.label, self._began), *filter(None, [self._now()])])
        gone = [] if self._stages else [so_far(self._began)]
        return "  ".join([self._head(), *filter(None, [self._now()]), *gone, *self.values])

    def _draw(self) -> None:
        """As much of it as the terminal is wide."""
        if self.bar is None:
            return
        width, head = columns(self._stream), self._head()
        values: list[str] = []
        if self.unit is None:
            head, tail = "", going(self.label, self._began, width)
        elif self._stages:
            tail = going(*self._stages[-1], max(width - disp_len(head) - 1, 20))
        else:
            tail, values = self._now() or so_far(self._began), self.values
        room_for_bar = bool(self.total) and disp_len(head + tail) + 14 <= width
        tail = joined(tail, values, width - disp_len(head) - (14 if room_for_bar else 1))
        self.bar.draw(head, tail, self.done, bar=room_for_bar)

    def _head(self) -> str:
        if self.unit is None:
            return self.label
        return f"{self.label}: {self.done}" + (f"/{self.total}" if self.total is not None else "") + f" {self.unit}"

    def _now(self) -> str:
        """The stage or the ETA."""
        if self._stages:
            return going(*self._stages[-1])
        eta_s = self.eta_s()
        return "" if eta_s is None else f"ETA {duration(eta_s)}"

    def _stage_times(self) -> list[str]:
        """What they took in all, as one text, if that is worth a word."""
        times = [f"{label} {duration(spent)}" for label, (_, spent, _) in self._beside.items() if spent >= 1]
        return [f"({', '.join(times)})"] if times else []

    def _print(self, text: str) -> None:
        _open[0]._due = time.monotonic() + LINE_S
        show(printable(text) + "\n", self._stream)


def _beat(ended: threading.Event) -> None:
    """Keeps times moving while nothing is counted, and shows what was counted without a call."""
    while not ended.wait(_BEAT_S):
        for one in list(_open):
            one.look()
