"""A sign in the run folder that a process of some host writes there: file locks do not cross all file systems."""

import json
import os
import pathlib
import platform
import tempfile
import threading

from alp_jax.core.errors import UserError
from alp_jax.core.files import write_json
from alp_jax.core.run_files import LEASE, LEASE_S

_RENEW_S = 10.0


class Lease:
    """``.lease`` of a run folder, renewed by a thread until it is closed. Whoever takes it holds the lock of its host.

    Ages are differences of the file system's own times, so that clocks of hosts need not agree.

    Raises:
      UserError: another host renewed its lease within the last ``LEASE_S`` seconds.
    """

    def __init__(self, folder: pathlib.Path):
        self._path = folder / LEASE
        held, age = _read(self._path)
        mine = {"host": platform.node(), "boot": _boot(), "pid": os.getpid()}
        if held and (held.get("host"), held.get("boot")) != (mine["host"], mine["boot"]) and age < LEASE_S:
            raise UserError(
                f"--workdir {folder} is in use by process {held.get('pid')} on {held.get('host')}, seen {age:.0f} s "
                f"ago: choose another, or, if that host is gone, try again in {LEASE_S - age:.0f} s"
            )
        write_json(self._path, mine)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def close(self) -> None:
        if not self._closing.is_set():
            self._closing.set()
            self._thread.join()
            self._path.unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._closing.wait(_RENEW_S):
            try:
                os.utime(self._path)
            except OSError:
                continue  # storage that is away for a moment; the lease lasts for several tries


def _read(path: pathlib.Path) -> tuple[dict, float]:
    """What the lease holds and its age in seconds; an unreadable one counts as held by nobody known."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{LEASE}.") as now:
            age = os.stat(now.name).st_mtime - path.stat().st_mtime
        held = json.loads(path.read_text(encoding="utf-8"))
        return (held if isinstance(held, dict) else {"host": "an unknown host"}), age
    except FileNotFoundError:
        return {}, 0.0
    except ValueError:
        return {"host": "an unknown host"}, age


def _boot() -> str:
    """Tells hosts of the same name apart: containers have many."""
    try:
        return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
