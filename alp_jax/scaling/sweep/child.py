"""One child process of a sweep, in a session of its own; it is told to stop when its driver dies, never left behind."""

import ctypes
import dataclasses
import fcntl
import itertools
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from alp_jax.core.cores import usable_cores
from alp_jax.core.errors import UserError
from alp_jax.core.run_files import LOG

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclasses.dataclass(frozen=True)
class Slot:
    """A place for one running run: the CPU cores it gets (None: all), and environment variables."""

    cores: frozenset[int] | None = None
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Lock:
    """An exclusive lock on a file, held to the end of the ``with`` block, and by children that inherit ``fd``.

    Args:
      path: lock file, made if missing.
      wait_s: how long to wait for another holder.
      message: what the UserError says when the lock stays taken.
    """

    def __init__(self, path: pathlib.Path, wait_s: float, message: str):
        self._file = path.open("w")
        self.fd = self._file.fileno()
        limit = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                if time.monotonic() >= limit:
                    self._file.close()
                    raise UserError(message) from None
                time.sleep(0.05)

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *exc) -> None:
        self._file.close()


class Child:
    """Runs ``command`` with its output appended to ``log``.

    A Ctrl-C at the terminal reaches only the driver (own session), which passes it on once. Where the kernel offers it,
    the child gets SIGTERM when the driver dies; ``lock_fd`` stays locked until the child has ended too, so that the
    next driver can wait for it.
    """

    def __init__(self, command: list[str], log: pathlib.Path, lock_fd: int, slot: Slot):
        self.log, self.began, self._asked = log, time.monotonic(), False
        self._since = time.time()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lock_fd,),
                preexec_fn=_prepare(os.getpid(), slot.cores) if sys.platform == "linux" else None,
                env={**os.environ, **slot.environ},
            )

    def wait(self, timeout_s: float) -> int | None:
        """The exit status (minus the signal's number where a signal ended it), or None while the child runs."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def seconds(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.began

    def ask_to_stop(self) -> None:
        """SIGTERM, once."""
        if not self._asked and self._process.poll() is None:
            self._process.terminate()
        self._asked = True

    def stop(self, grace_s: float) -> int:
        """SIGTERM, time to save, then SIGKILL for the whole session; returns the exit status."""
        self.ask_to_stop()
        status = self.wait(grace_s)
        if status is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            status = self._process.wait()
        return status

    def last_line(self) -> str:
        """The last line that this child printed, at most 300 characters."""
        return last_line(self.log, self._log_start)

    def note(self) -> str:
        """The latest line about its progress, from its output or its log."""
        return latest_line(self.log, self.log.parent, self._log_start, self._since)


def last_line(log: pathlib.Path, start: int = 0) -> str:
    """The last line of a file that is not blank, from byte ``start`` on, at most 300 characters; "" without one."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().decode(errors="replace").replace("\r", "\n").split("\n")
    except FileNotFoundError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[-300:]


def latest_line(output: pathlib.Path, run_dir: pathlib.Path, start: int = 0, since: float = 0.0) -> str:
    """The last line of ``output``, to which a run prints once a minute, or of the run's ``log.txt`` if that is newer.

    Args:
      start: as in ``last_line``. since: ``log.txt`` counts if it was written after this time (of ``time.time``).
    """
    try:
        written = (run_dir / LOG).stat().st_mtime
        newer = written >= since and written >= output.stat().st_mtime
    except FileNotFoundError:
        newer = False
    return last_line(run_dir / LOG) if newer else last_line(output, start)


def make_slots(parallel: int = 1, gpus: Sequence[str] = (), gpus_per_run: int = 1) -> list[Slot]:
    """One slot with everything, ``parallel`` equal shares of the CPU cores, or ``gpus_per_run`` of ``gpus`` per slot.

    Args:
      gpus: as CUDA_VISIBLE_DEVICES names them.

    Raises:
      UserError: more slots than cores, a GPU named twice, or GPUs that do not divide.
    """
    if not gpus:
        shares = core_shares(parallel)
        return [Slot() if cores is None else Slot(cores, {"JAX_PLATFORMS": "cpu"}) for cores in shares]
    named = ",".join(gpus)
    if len(set(gpus)) < len(gpus) or not all(gpus):
        raise UserError(f"--gpus {named}: name every GPU once, as in 0,1,2,3")
    if gpus_per_run < 1 or len(gpus) % gpus_per_run:
        raise UserError(f"--gpus {named} cannot be shared out {gpus_per_run} to a run (--gpus_per_run)")
    groups = [gpus[at : at + gpus_per_run] for at in range(0, len(gpus), gpus_per_run)]
    return [Slot(environ={"CUDA_VISIBLE_DEVICES": ",".join(group)}) for group in groups]


def core_shares(parallel: int) -> list[frozenset[int] | None]:
    """The CPU cores that each of ``parallel`` children may use, equal shares; None where a single one has them all.

    Raises:
      UserError: more children than cores.
    """
    if parallel == 1:
        return [None]
    cores = usable_cores()
    if not 1 <= parallel <= len(cores):
        raise UserError(f"--parallel {parallel}: must be from 1 to {len(cores)}, the number of CPU cores")
    edges = [len(cores) * i // parallel for i in range(parallel + 1)]
    return [frozenset(cores[first:last]) for first, last in itertools.pairwise(edges)]


def _prepare(parent: int, cores: frozenset[int] | None):
    libc = ctypes.CDLL(None, use_errno=True)  # loaded here: nothing is imported between fork and exec

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # the driver died before the request was made
            os._exit(128 + signal.SIGTERM)
        if cores is not None:
            os.sched_setaffinity(0, cores)

    return prepare
