"""How long work takes: the speed of what was done lately, and seconds in words."""

import collections
import time

_WINDOW_S = 120.0  # of work that the speed rests on, and
_WINDOW_PIECES = 20  # at least so many pieces of it: batches of several lengths differ in cost
_PIECE_S = 0.5  # shorter stretches are put together: work that is done in batches is often told unit by unit


def clock(seconds: float) -> str:
    """For a column of a table: ``75`` -> ``1:15``; ``3700`` -> ``1:01:40``."""
    seconds = max(0, round(seconds))
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def duration(seconds: float) -> str:
    """For a sentence, two units at most: ``0.4 s``, ``40 s``, ``9 min 5 s``, ``12 min``, ``3 h 5 min``, ``3 d 4 h``."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds >= 0.05 else "0 s"
    whole = round(seconds)
    minutes = whole // 60 if whole < 600 else round(seconds / 60)
    hours = round(seconds / 3600)
    if whole < 60:
        return f"{whole} s"
    if minutes < 10:
        return f"{minutes} min {whole % 60} s" if whole % 60 else f"{minutes} min"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


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
        """So much was done since the last call."""
        now = time.monotonic()
        if not self._warm:
            self._warm, self._mark = True, now
            return
        self._amount += amount
        if now - self._mark >= _PIECE_S:
            self._take(now - self._mark, self._amount)
            self._mark, self._amount = now, 0.0

    def _take(self, seconds: float, amount: float) -> None:
        self._pieces.append((seconds, amount))
        self._sums = [self._sums[0] + seconds, self._sums[1] + amount]
        while len(self._pieces) > _WINDOW_PIECES and self._sums[0] - self._pieces[0][0] >= _WINDOW_S:
            old = self._pieces.popleft()
            self._sums = [self._sums[0] - old[0], self._sums[1] - old[1]]

    def pause(self) -> None:
        """From here on time is spent on something else."""
        self._paused = time.monotonic()

    def resume(self) -> None:
        """Ends a pause."""
        assert self._paused is not None, "no pause was begun"
        self._mark += time.monotonic() - self._paused
        self._paused = None

    def seconds_for(self, amount: float) -> float | None:
        """Seconds that so much more will take from now; None while that is not known.

        What goes on now counts too: its time so far is gone, and where it takes longer than usual the speed is less.
        """
        if self._sums[1] <= 0:
            return None
        now = time.monotonic() if self._paused is None else self._paused
        waited, usual = now - self._mark, self._sums[0] / len(self._pieces)
        rate = (self._sums[0] + max(waited - usual, 0.0)) / self._sums[1]
        begun = min(max(waited - self._amount * rate, 0.0), usual)
        return max(amount * rate - begun, 0.0)
