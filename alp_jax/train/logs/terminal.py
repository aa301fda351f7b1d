"""The line on which a run says how far it is."""

import shutil
import sys
import time

INTERVAL_S = 0.2  # between two looks of a terminal's line


class Terminal:
    """Rewrites one line on a terminal, every 0.2 s at most; elsewhere prints a line for each ``say``."""

    def __init__(self, stream=None):
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._shown = float("-inf")
        self._line = ""  # that a terminal does not show yet

    def due(self) -> bool:
        """Whether a line would be shown now; between results it saves making one."""
        return self._live and time.monotonic() - self._shown >= INTERVAL_S

    def say(self, line: str) -> None:
        """A result: printed, or shown when the next line is due."""
        self._line = line
        if not self._live:
            self._stream.write(line + "\n")
            self._stream.flush()
        elif self.due():
            self.show(line)

    def show(self, line: str) -> None:
        """Rewrites the line of a terminal; to be called when ``due``."""
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r{line[:width]:<{width}}")
        self._stream.flush()
        self._shown, self._line = time.monotonic(), ""

    def close(self) -> None:
        """Shows what is not shown yet and leaves the line."""
        if not self._live:
            return
        if self._line:
            self.show(self._line)
        self._stream.write("\n")
        self._stream.flush()
