"""Checkpoints of a run in an object store whose hosts do not see each other's disks.

Each process writes its shards into a folder of its own host. Those of other hosts than process 0's go through the
store: their processes upload what they wrote, process 0 fetches it, commits the checkpoint and uploads it whole.
"""

import concurrent.futures
import fcntl
import pathlib
import platform
import shutil
from collections.abc import Callable
from typing import Any, TextIO

from alp_jax.core import object_store, storage
from alp_jax.core.errors import StorageError
from alp_jax.core.mirror import AT_ONCE
from alp_jax.core.run_files import BAD_STEPS, LOCK
from alp_jax.parallel import hosts
from alp_jax.train.checkpoint_folder import checkpoints_dir, step_folder, verify
from alp_jax.train.remote_run import fetch_step

_PARTS = ".parts"
FETCH_S = 3600.0  # for a host to fetch a checkpoint


class HostParts:
    """The part of this process; all processes of the run make one, once process 0 has opened its folder.

    Args:
      url: the run folder in the store.
      stage: this host's folder of the run. identity: what process 0's says of itself. named: the file that says it.

    Attributes:
      apart: whether this process writes where process 0 does not see it.
    """

    def __init__(self, url: str, stage: pathlib.Path, named: pathlib.Path, identity: str):
        self._url, self._stage = url, stage
        self.apart = not (named.exists() and named.read_text() == identity)
        place = f"{platform.node()} {stage}"
        everywhere = hosts.gather([self.apart, place], "where the run folder is", FETCH_S)
        self._others = [process for process, (apart, _) in enumerate(everywhere) if apart]
        alike = [process for process, (apart, there) in enumerate(everywhere) if apart and there == place]
        self._leads = self.apart and min(alike) == hosts.process_index()
        self._lock: TextIO | None = None
        if self._leads:
            self._empty()
        hosts.barrier("an empty run folder on every host")

    def _empty(self) -> None:
        self._stage.mkdir(parents=True, exist_ok=True)
        self._lock = (self._stage / LOCK).open("a")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        for path in self._stage.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()

    @property
    def any(self) -> bool:
        """Whether a process writes where process 0 does not see it."""
        return bool(self._others)

    def fetch(self, step: int | None) -> None:
        """Gives every host the checkpoint ``step`` of the store; StorageError when it is not intact there."""
        if step is not None and self._leads:
            try:
                fetch_step(self._url, step, self._stage)
                verify(step_folder(self._stage, step))
            except OSError as error:
                raise StorageError(f"checkpoint {step} of {self._url} cannot be fetched: {error}") from None
        if self.any:
            hosts.barrier("the checkpoint is fetched", FETCH_S)

    def send(self, folder: pathlib.Path) -> None:
        """Uploads what this process has written into ``folder``, an unfinished checkpoint."""
        number = hosts.process_index()
        own = [
            name for name in storage.tree(folder) if any(part.endswith(f"process_{number}") for part in name.split("/"))
        ]
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda name: object_store.send(folder / name, self._at(folder, f"{number}/{name}")), own))

    def collect(self, folder: pathlib.Path) -> None:
        """Puts what the others have sent into ``folder``, and removes it from the store."""
        for process in self._others:
            there = self._at(folder, str(process))
            for name in storage.tree(there):
                storage.fetch(storage.join(there, name), folder / name)
        object_store.remove_folder(self._at(folder, "").rstrip("/"))

    def _at(self, folder: pathlib.Path, name: str) -> str:
        return storage.join(self._url, f"{_PARTS}/{folder.name.partition('.')[0]}/{name}")

    def forget(self) -> None:
        """Removes checkpoints from this host once they are process 0's, or restored."""
        if self._leads:
            shutil.rmtree(checkpoints_dir(self._stage), ignore_errors=True)

    def close(self) -> None:
        """Removes this host's folder, and keeps what only it has."""
        if self.apart and (self._stage / BAD_STEPS).exists() and self._leads:
            number = hosts.process_index()
            object_store.send(self._stage / BAD_STEPS, storage.join(self._url, f"process_{number}_{BAD_STEPS}"))
        if self._lock is not None:
            shutil.rmtree(self._stage.parent, ignore_errors=True)
            self._lock.close()
            self._lock = None


def through_store(handler: Any, parts: HostParts) -> None:
    """Lets what other hosts write come to process 0 between the last write and the commit of Orbax's ``handler``."""
    write, commit = handler.async_save, handler.finalize

    async def async_save(directory: Any, args: Any) -> Any:
        futures = await write(directory, args)
        if parts.apart:  # Orbax waits until it sees this folder, which process 0 makes on its own host
            pathlib.Path(handler._current_temporary_paths["state"].get(), "array_metadatas").mkdir(parents=True)
        return [_Sent(futures or [], lambda: parts.send(pathlib.Path(directory)))] if parts.apart else futures

    def finalize(directory: Any) -> None:
        parts.collect(pathlib.Path(directory))
        commit(directory)

    # on the object: Orbax finds the arguments of a handler by its class
    handler.async_save, handler.finalize = async_save, finalize


class _Sent:
    """A future of Orbax that ends when ``futures`` have and ``send`` has been called."""

    def __init__(self, futures: list, send: Callable[[], None]):
        self._futures, self._send = futures, send

    def result(self, timeout: int | None = None) -> None:
        for future in self._futures:
            future.result(timeout=timeout)
        self._send()
