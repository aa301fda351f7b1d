"""The terminal line that is redrawn in place: a tqdm bar with the texts of a ``Progress``."""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

from tqdm.std import tqdm
from tqdm.utils import disp_len, disp_trim

from alp_jax.core.pace import duration

LOCK = threading.RLock()  # of everything that is shown


def is_terminal(stream: TextIO | None) -> bool:
    """Whether lines of ``stream`` can be redrawn in place; not where it is closed, or None."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    return False


def show(text: str, stream: TextIO | None) -> None:
    """Writes ``text`` at once if the stream is still open; a closed one must not end the work.

    ``stream`` is None where whoever started this closed it.
    """
    if stream is None:
        return
    with contextlib.suppress(OSError, ValueError, AttributeError):
        stream.write(text)
        stream.flush()


def columns(stream: TextIO | None) -> int:
    """How many columns fit without wrapping: one less than the terminal has at this moment."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if stream is not None and (width := os.get_terminal_size(stream.fileno()).columns) > 0:
            return width - 1
    stated = os.environ.get("COLUMNS", "")
    return (int(stated) if stated.isdigit() and int(stated) else 80) - 1


def printable(text: str) -> str:
    """``text`` on one line: names of files may hold anything."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)


def joined(text: str, values: list[str], room: int | None) -> str:
    """``text`` and as many ``values``, from the first, as fit into ``room``; None: all of them fit."""
    for value in values:
        if room is None or disp_len(text + value) + 2 <= room:
            text += "  " + value
    return text


def so_far(since: float) -> str:
    """``40 s so far``: the time since ``since``, a reading of ``time.monotonic()``."""
    return f"{duration(time.monotonic() - since)} so far"


def going(named: str, since: float, width: int | None = None) -> str:
    """``compiling the step: 40 s so far``; what does not fit into ``width`` is cut from the name."""
    end = f": {so_far(since)}" if time.monotonic() - since >= 1 else " ..."
    return (named if width is None else disp_trim(named, max(width - len(end), 0))) + end


class Bar(tqdm):
    """A tqdm whose text comes from a ``Progress``, as wide as the terminal is when it is drawn."""

    monitor_interval = 0  # the heartbeat below looks at all bars
    head = tail = ""

    def draw(self, head: str, tail: str, done: int = 0, *, bar: bool = False) -> None:
        """Shows both texts and, with ``bar``, the share that is done between them."""
        self.head, self.tail, self.n = printable(head), printable(tail), done
        self.bar_format = "{head} |{bar:10}| {tail}" if bar else "{head} {tail}" if head else "{tail}"
        self.refresh()

    def end(self, text: str, *, leave: bool) -> None:
        """Leaves ``text`` on the screen, or nothing."""
        self.leave, self.bar_format, self.head = leave, "{head}", printable(text)
        self.close()

    @property
    def format_dict(self) -> dict[str, Any]:
        """What tqdm formats the bar from, with our text before and after it."""
        return {**super().format_dict, "head": self.head, "tail": self.tail}

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        """What tqdm draws with: the text is cut and padded to the width that the terminal has now."""

        def show(text: str) -> None:
            width = columns(file)
            text = disp_trim(text, width)
            file.write("\r" + text + " " * (width - disp_len(text)))
            file.flush()

        return show


Bar.set_lock(LOCK)
