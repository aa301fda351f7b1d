"""A run in an object store: written in a local folder, its stage, and uploaded in the background.

A checkpoint goes up file by file and counts there once its manifest is there, the last of its objects. Logs, results
and marks go up whole whenever they have changed. What fails is said and tried again; training never waits for it, but
its end does. On the stage stay the last checkpoint and those that are still to go up.
"""

import concurrent.futures
import pathlib
import shutil
import threading
import time
import uuid

from alp_jax.core import object_store, storage
from alp_jax.core.errors import AlpError, StorageError
from alp_jax.core.files import write_text
from alp_jax.core.mirror import AT_ONCE
from alp_jax.core.progress import say
from alp_jax.core.run_files import LOCK
from alp_jax.train.checkpoint_folder import (
    MANIFEST,
    Keep,
    checkpoints_dir,
    complete,
    kept,
    numbered,
    read_manifest,
    remove_others,
    step_folder,
)
from alp_jax.train.lease import StoreLease
from alp_jax.train.remote_run import fetch_run, mirror

EVERY_S = 30.0  # between uploads of what has changed, checkpoints aside
RETRY_S = (1.0, 60.0)  # the first wait after a failure, and the longest: each is twice the one before
AT_EXIT_S = 600.0  # how long the end of a run goes on trying
IDENTITY = ".stage"  # in a stage, and in the lease of the run that was last written from it


class Uploads:
    """Holds the lease of the run in ``url`` and uploads what it writes in ``stage``; process 0 has it.

    When this is made the stage has what the store has: if the run was last written from it, it stays as it is, for it
    may have more; if not, everything is fetched.

    Args:
      stage: a local folder whose lock is held.
      url: the run folder in the store.
      keep: which checkpoints stay there.

    Attributes:
      identity: of the stage.
      lease: of the run folder in the store.
      reported: steps whose numbers are in the logs. A checkpoint counts in the store only when those before it are.

    Raises:
      UserError: another process is at work in the run.
      OSError, StorageError: the store cannot be read or written.
    """

    def __init__(self, stage: pathlib.Path, url: str, keep: Keep):
        self._stage, self._url, self._keep = stage, url, keep
        self._mirror = mirror(stage, url)
        named = stage / IDENTITY
        self.identity = named.read_text() if named.exists() else uuid.uuid4().hex
        self.lease = StoreLease(url, self.identity)
        try:
            self._catch_up(self.identity)
        except BaseException:
            self.lease.close()
            raise

    def _catch_up(self, identity: str) -> None:
        named, stage, url = self._stage / IDENTITY, self._stage, self._url
        if self.lease.last_stage == identity:
            self._mirror.pull(only_missing=True)
        else:
            named.unlink(missing_ok=True)  # first: what a kill leaves of this is not a stage
            for path in stage.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.name != LOCK:
                    path.unlink()
            fetch_run(url, self._mirror)
            write_text(named, identity)
        self._there = {step: read_manifest(step_folder(url, step)) for step in complete(url)}
        self._lock, self._waiting = threading.Lock(), dict[int, dict]()  # step -> manifest, to go up
        self._sending: int | None = None
        self.reported = 0
        self._wake, self._closing = threading.Event(), threading.Event()
        self._failing, self._patience = "", AT_EXIT_S
        self._thread: threading.Thread | None = None

    def begin(self, step: int) -> None:
        """Says that the run goes on from ``step``. Later checkpoints of the store, which are damaged, count no more."""
        self._there = {one: manifest for one, manifest in self._there.items() if one <= step}
        self.reported = step
        for one in complete(self._stage):
            if one not in self._there and one <= step:  # an earlier start ended before it was up
                self.sealed(one)

    def start(self) -> None:
        """From now on changes go up; nothing is left that refuses the run."""
        self._thread = threading.Thread(target=self._run, name="uploads", daemon=True)
        self._thread.start()

    def sealed(self, step: int) -> None:
        """Takes a complete checkpoint of the stage to be uploaded, and removes those that nobody waits for."""
        with self._lock:
            self._waiting[step] = read_manifest(checkpoints_dir(self._stage) / str(step))
            stay = kept(self._keep, self._there | self._waiting)
            for old in [old for old in self._waiting if old not in stay and old != self._sending]:
                del self._waiting[old]
            self._prune()
        self._wake.set()

    def _prune(self) -> None:
        remove_others(self._stage, Keep(last=1), spared=self._waiting.keys())

    def _poll(self) -> None:
        if self.lease.lost:
            raise StorageError(self.lease.lost)

    def close(self, within_s: float = AT_EXIT_S) -> None:
        """Returns when everything is up and the lease released; may be called twice.

        Raises:
          StorageError: another process has taken over, or it did not work within that time.
        """
        if self._closing.is_set():
            return
        self._patience, self.reported = within_s, max(self._waiting, default=0)
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self._poll()
        try:
            self.lease.close()
        except OSError as error:
            self._failing = self._failing or str(error)
        if self._failing:
            raise StorageError(
                f"{self._url} lacks what {self._stage} has, after {within_s:.0f} s of trying: {self._failing}; run the "
                "same command again on this host"
            )

    def _run(self) -> None:
        wait, give_up = RETRY_S[0], 0.0
        while True:
            closing = self._closing.is_set()
            self._failing = self._attempt()
            if self.lease.lost:
                return
            if self._failing:
                give_up = give_up or (time.monotonic() + self._patience if closing else 0.0)
                if closing and time.monotonic() >= give_up:
                    return
                say(f"alp: uploading to {self._url} failed: {self._failing}; trying again in {wait:.0f} s")
                time.sleep(wait) if closing else self._closing.wait(wait)
                wait = min(2 * wait, RETRY_S[1])
                continue
            if wait > RETRY_S[0]:
                say(f"alp: {self._url} is up to date again")
                wait = RETRY_S[0]
            if closing:
                return
            self._wake.wait(EVERY_S)
            self._wake.clear()

    def _attempt(self) -> str:
        """Brings the store up to date; "" or why that failed."""
        try:
            self.up_to_date()
        except AlpError as error:  # credentials may be renewed, too
            return str(error)
        return ""

    def up_to_date(self) -> None:
        """Uploads what has changed since the last call, and removes checkpoints that need not stay.

        Raises:
          StorageError: something could not be written; the next call does it.
        """
        try:
            self.lease.check()
            self._mirror.push(self._poll)
            while (step := self._next()) is not None:
                self._upload(step)
            self._remove_others()
        except OSError as error:
            raise StorageError(f"{self._url}: {error}") from None

    def _next(self) -> int | None:
        with self._lock:
            self._sending = min((step for step in self._waiting if step <= self.reported), default=None)
            return self._sending

    def _upload(self, step: int) -> None:
        source, there = checkpoints_dir(self._stage) / str(step), step_folder(self._url, step)
        manifest = read_manifest(source)
        self.lease.check()
        storage.remove(storage.join(there, MANIFEST))  # of a step that is written again: it ends before its files
        object_store.remove_folder(there)

        def send(name: str) -> None:
            self._poll()
            object_store.send(source / name, storage.join(there, name))

        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(send, manifest["files"]))
        self._mirror.push(self._poll)  # the logs of the steps before it, first
        self.lease.check()
        # The manifest last, and after one more look at the lease: the files may have taken minutes, and from the
        # manifest on whoever resumes the run trusts them.
        object_store.send(source / MANIFEST, storage.join(there, MANIFEST))
        with self._lock:
            self._there[step] = self._waiting.pop(step, manifest)
            self._prune()

    def _remove_others(self) -> None:
        if not self._there:
            return
        stay = kept(self._keep, self._there)
        for step in numbered(self._url):
            if step not in stay and step < max(self._there):
                storage.remove(storage.join(step_folder(self._url, step), MANIFEST))
                object_store.remove_folder(step_folder(self._url, step))
                self._there.pop(step, None)
