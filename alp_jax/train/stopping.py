"""SIGTERM and SIGINT: every process leaves its loop at the same step, or at once while there is nothing to save.

Python runs signal handlers between two of its instructions, so a compilation of several minutes would delay them. A
thread therefore also reads signals from a pipe, and ends the process itself as long as that loses nothing.
"""

import os
import signal
import socket
import threading
import types
from collections.abc import Callable

from alp_jax.core.errors import Preempted
from alp_jax.core.progress import say
from alp_jax.parallel import hosts

_ASKED, _AGREED = "stop asked", "stop agreed"
# Hosts are at most two steps apart, as each reads the metrics of a step before it starts the one after the next.
_AHEAD = 4


class Stop:
    """Notices signals from ``__enter__`` to ``__exit__``; only the outermost of nested ones acts.

    Attributes:
      number: the signal that asked to stop; 0: none has.
      alone: whether the run has this process only, so that ``due`` need not be asked before a signal came.
    """

    _outermost: "Stop | None" = None

    def __new__(cls) -> "Stop":
        return cls._outermost or super().__new__(cls)

    def __init__(self) -> None:
        if Stop._outermost is self:
            return
        self.number = 0
        self._depth = 0
        self._at_once: Callable[[], str] | None = None  # says why a signal may act at once; None: it may not
        self._before_exit: list[Callable[[], None]] = []
        self._announced = False
        self.alone = True

    def __enter__(self) -> "Stop":
        self._depth += 1
        self.alone = hosts.process_count() == 1  # JAX's processes have met before, and stay as many
        if self._depth == 1 and threading.current_thread() is threading.main_thread():
            Stop._outermost = self
            self._reader, self._writer = socket.socketpair()
            self._writer.setblocking(False)
            self._pipe_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            self._before = {s: signal.signal(s, self._on_signal) for s in (signal.SIGTERM, signal.SIGINT)}
            self._watcher = threading.Thread(target=self._watch, name="signals", daemon=True)
            self._watcher.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._depth -= 1
        if self._depth or Stop._outermost is not self:
            return
        Stop._outermost = None
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._pipe_before)
        self._writer.close()  # the watcher reads the end
        self._watcher.join()
        self._reader.close()

    def leave_at_once(self, why: Callable[[], str] | None) -> None:
        """From now on a signal ends this process and the others at once, with the text of ``why``. With None,
        signals wait for the loop again. A signal that has already arrived acts now."""
        self._at_once = why
        self._leave_if_asked()

    def before_exit(self, call: Callable[[], None]) -> None:
        """``call`` runs before the process ends at once: what a ``finally`` would have done."""
        self._before_exit.append(call)

    def due(self, step: int) -> bool:
        """Whether all processes stop before ``step``; to be asked at every step, on one process once a signal came.

        A process that got a signal posts it to the coordination service; process 0 reads that and names a step that no
        process has begun.
        """
        if self.alone:
            return bool(self.number)
        if self.number and not self._announced:
            hosts.post(f"{_ASKED}/{hosts.process_index()}", self.number)
            self._announced = True
        if hosts.is_primary() and not hosts.posted(_AGREED) and (asked := hosts.posted(_ASKED)):
            number = next(iter(asked.values()))
            hosts.post(f"{_AGREED}/step", [step + _AHEAD, number])
        agreed = hosts.posted(_AGREED)
        if not agreed:
            return False
        at, number = agreed["step"]
        if step >= at:
            self.number = self.number or number
        return step >= at

    def _on_signal(self, number: int, frame: types.FrameType | None) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = self.number or number

    def _watch(self) -> None:
        wanted = (signal.SIGTERM, signal.SIGINT)
        while data := self._reader.recv(16):
            for number in data:
                if number in wanted:
                    self.number = self.number or number
                    self._leave_if_asked()

    def _leave_if_asked(self) -> None:
        why = self._at_once  # the loop's thread may take it away meanwhile
        if why is None or not self.number:
            return
        line = f"stopped by signal {self.number} {why()}"
        say(f"alp: {line}")
        for call in self._before_exit:
            call()
        hosts.end_now(Preempted.exit_code, line)
        os._exit(Preempted.exit_code)
