"""Who is at work in a run folder: one process of one host, as long as it keeps saying so.

A lease is renewed by a thread until it is closed. Ages are differences of times that the file system or the store
itself gives, so that clocks of hosts need not agree.
"""

import json
import os
import pathlib
import platform
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from alp_jax.core import object_store, storage
from alp_jax.core.errors import AlpError, StorageError, UserError
from alp_jax.core.files import write_json
from alp_jax.core.progress import say
from alp_jax.core.run_files import LEASE, LEASE_S

RENEW_S = 10.0
_POLL_S = 1.0  # while another lease is watched


class _Renewed:
    """Calls ``renew`` every ``RENEW_S`` seconds until it is closed; storage may be away for several of them."""

    def __init__(self, renew: Callable[[], None]):
        self._renew, self._closing = renew, threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.wait(RENEW_S):
            try:
                self._renew()
            except (OSError, AlpError):
                continue  # the lease outlasts several tries

    def close(self) -> bool:
        """Whether it was open until now."""
        if self._closing.is_set():
            return False
        self._closing.set()
        self._thread.join()
        return True


class Lease:
    """``.lease`` of a local run folder. Whoever takes it holds the lock of its host.

    Attributes:
      lost: "", or the line that says who has taken over while this process was not heard of.

    Raises:
      UserError: another host renewed its lease within the last ``LEASE_S`` seconds.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder, self._path, self.lost = folder, folder / LEASE, ""
        held, age = _read_lease(self._path)
        own = self._own = {**_self(), "claim": uuid.uuid4().hex}
        if held and (held.get("host"), held.get("boot")) != (own["host"], own["boot"]) and age < LEASE_S:
            raise UserError(
                f"--workdir {folder} is in use by process {held.get('pid')} on {held.get('host')}, seen {age:.0f} s "
                f"ago: choose another, or, if that host is gone, try again in {LEASE_S - age:.0f} s"
            )
        write_json(self._path, own)
        self._renewed = _Renewed(self._renew)

    def _renew(self) -> None:
        held = _read_lease(self._path)[0]
        if held and held != self._own:
            self.lost = self.lost or _taken_over(self._folder, held)
        if not self.lost:
            os.utime(self._path)

    def close(self) -> None:
        """Stops renewing and leaves the folder to the next holder."""
        if self._renewed.close() and not self.lost:
            self._path.unlink(missing_ok=True)


class StoreLease:
    """The lease of a run folder in an object store: the object of the highest number in ``.lease/``.

    Each holder creates the next number, which of several at once only one can do, and writes it again to renew it. A
    holder that was stalled for so long that another took over finds the higher number and is ``lost``. The object of
    the last holder stays, marked as released, and says which local folder (``stage``) was the last to write.

    Args:
      url: the run folder.
      stage: identity of the local folder from which it is written; whoever gives it holds the lock of that folder.

    Attributes:
      last_stage: identity of the previous holder's, "" for a first one.
      lost: "", or the line that says who has taken over.

    Raises:
      UserError: another holder renewed its lease while this one waited for its end.
      StorageError: the store cannot be written to.
    """

    def __init__(self, url: str, stage: str):
        self._url, self._folder, self.lost = url, storage.join(url, LEASE), ""
        self._own = {**_self(), "stage": stage, "claim": uuid.uuid4().hex, "released": False}
        number = self._take()
        self._name, self._number = storage.join(self._folder, f"{number:08}"), number
        # After our own number is there: in a folder without any, another process would begin at 1.
        for old in self._numbers():
            if old < number:
                storage.remove(storage.join(self._folder, f"{old:08}"))
        self._renewed = _Renewed(self._renew)

    def _take(self) -> int:
        """Creates and returns the next number as soon as the last one's holder has released it or is gone."""
        told, seen = False, None
        while True:
            held, number, renewed = self._held()
            free = not held or held.get("released") or held.get("stage") == self._own["stage"]
            if not free:
                # By the clock of the store, as hosts may differ by more than a lease lasts. A lease that was renewed
                # between two looks has a live holder; one that was not is taken once it is old enough.
                age = self._now() - renewed
                who = f"process {held.get('pid')} on {held.get('host')}"
                if seen not in (None, (number, renewed)):
                    raise UserError(f"--workdir {self._url} is in use by {who}: choose another, or stop it first")
                seen, free = (number, renewed), age >= LEASE_S
                if not free and not told:
                    told = True
                    say(f"alp: {self._url} was in use by {who} {age:.0f} s ago: waiting to see whether it still is")
            if free:
                self.last_stage = str(held.get("stage", ""))
                if object_store.create(storage.join(self._folder, f"{number + 1:08}"), _encoded(self._own)):
                    return number + 1
            else:
                time.sleep(_POLL_S)

    def _held(self) -> tuple[dict, int, float]:
        """The last holder, its number and when it was renewed; ({}, 0, 0) where there never was one."""
        number = max(self._numbers(), default=0)
        name = storage.join(self._folder, f"{number:08}")
        if not number:
            return {}, 0, 0.0
        try:
            renewed, held = storage.modified(name), json.loads(storage.read(name))
        except FileNotFoundError:  # removed by a holder that came meanwhile
            return self._held()
        except ValueError:
            return {"host": "an unknown host"}, number, renewed
        return held if isinstance(held, dict) else {"host": "an unknown host"}, number, renewed

    def _numbers(self) -> list[int]:
        return [int(name) for name in storage.names(self._folder) if name.isdecimal()]

    def _now(self) -> float:
        """The time by the store's clock."""
        probe = storage.join(self._folder, f"now-{self._own['claim']}")
        storage.write(probe, b"")
        now = storage.modified(probe)
        storage.remove(probe)
        return now

    def check(self) -> None:
        """Raises StorageError where another process has taken over."""
        if not self.lost and max(self._numbers(), default=0) > self._number:
            self.lost = _taken_over(self._url, self._held()[0])
        if self.lost:
            raise StorageError(self.lost)

    def _renew(self) -> None:
        self.check()
        storage.write(self._name, _encoded(self._own))

    def close(self) -> None:
        """Stops renewing and marks the lease as released; one that is lost is left to its new holder.

        Raises:
          StorageError: the store cannot be written to.
        """
        if self._renewed.close() and not self.lost:
            storage.write(self._name, _encoded(self._own | {"released": True}))


def _taken_over(folder: storage.Location, held: dict) -> str:
    return (
        f"{folder} was taken over by process {held.get('pid')} on {held.get('host')}, as this one was not heard of for "
        f"{LEASE_S:.0f} s: it writes nothing more"
    )


def _encoded(held: dict) -> bytes:
    return json.dumps(held, sort_keys=True).encode()


def _self() -> dict[str, Any]:
    return {"host": platform.node(), "boot": _boot(), "pid": os.getpid()}


def _read_lease(path: pathlib.Path) -> tuple[dict, float]:
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
    """Tells apart hosts of the same name, as containers often have."""
    try:
        return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
