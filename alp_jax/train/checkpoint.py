"""Asynchronous, atomic checkpoints through Orbax: the state and all else that decides what comes next, in one commit.

``state/`` of a step holds the arrays, ``clock/`` a JSON object with the data fingerprint and the counters of the
run, ``manifest.json`` the SHA-256 of every file. The manifest is written last: a step without it does not exist.
"""

import logging
import os
import pathlib
import shutil
import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from alp_jax.core import storage
from alp_jax.core.errors import StorageError, UserError
from alp_jax.core.files import read_object
from alp_jax.core.progress import say
from alp_jax.core.run_files import CONFIG
from alp_jax.optim.optimizer import range_average
from alp_jax.parallel import hosts
from alp_jax.train.checkpoint_folder import (
    MANIFEST,
    Keep,
    checkpoints_dir,
    numbered,
    read_manifest,
    remove_others,
    require,
    require_any,
    verify,
    write_manifest,
)
from alp_jax.train.parts import FETCH_S, HostParts, through_store
from alp_jax.train.remote_run import local_run, steps_for
from alp_jax.train.uploads import Uploads

logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax reports every save at INFO and WARNING

# Orbax lets each copy of an array that lies on several devices write a slice of it. A slice is a program to compile,
# one per shape and device: the first save of a small model on 8 devices compiled 592, for 13 s. Below this size, in
# bytes, one copy writes the whole array; the files are the same.
ocp.type_handlers.get_type_handler(jax.Array)._min_slice_bytes_for_replica_parallel = 1 << 20
_WAIT_S = 600  # for process 0 to hash what is restored, and for the slowest writer of a save
_MARGIN = 1 << 20  # bytes of metadata beside the arrays


class Checkpoints:
    """The checkpoints of one run; all processes make the same calls.

    Args:
      run_dir: the run folder; checkpoints lie in its ``checkpoints/``.
      keep: which steps stay; a number N keeps the N latest.
      uploads: of a run in an object store; it then decides which steps stay in the local folder.
      parts: of such a run on several hosts.

    Attributes:
      uploads: as given.
      in_flight: whether a save has begun that is not known to be complete, so ``poll`` may have something to raise.
    """

    def __init__(
        self, run_dir: pathlib.Path, keep: Keep | int, uploads: Uploads | None = None, parts: HostParts | None = None
    ):
        self.uploads, self._parts = uploads, parts if parts and parts.any else None
        self._run = pathlib.Path(run_dir)
        self._keep = Keep(last=keep) if isinstance(keep, int) else keep
        self._path = checkpoints_dir(run_dir)
        if hosts.is_primary():
            self._path.mkdir(parents=True, exist_ok=True)
            # what a kill left of a save or of a removal; no complete step has such a name
            for left in [*self._path.glob("*.orbax-checkpoint-tmp*"), *self._path.glob("trash-*")]:
                shutil.rmtree(left, ignore_errors=True)
        handler = ocp.CompositeCheckpointHandler(
            state=ocp.StandardCheckpointHandler(), clock=ocp.JsonCheckpointHandler()
        )
        if self._parts:
            through_store(handler, self._parts)
        self._writer = ocp.AsyncCheckpointer(handler, timeout_secs=_WAIT_S)
        self._sealing: threading.Thread | None = None
        self._error: BaseException | None = None
        self._closing = threading.Event()
        self.in_flight = False

    def latest(self) -> int | None:
        """The last intact step, or None where no step was ever saved.

        Later steps, which are not intact, are moved aside (STEP.damaged), with a line that says what is wrong.

        Raises:
          StorageError: some steps were complete once, and none of them is intact.
        """
        # Process 0 decides for all: if each looked for itself, they could resume from different steps while one of them
        # moves folders.
        outcome = self._newest_whole() if hosts.is_primary() else None
        if self.uploads and self._parts:
            self.uploads.up_to_date()  # the other hosts have nothing but the store
        outcome = hosts.broadcast(outcome, "the checkpoint to resume from", FETCH_S if self._parts else _WAIT_S)
        if "error" in outcome:
            raise StorageError(outcome["error"])
        if self._parts:
            self._parts.fetch(outcome["step"])
        return outcome["step"]

    def _newest_whole(self) -> dict:
        bad: list[tuple[pathlib.Path, str]] = []
        for step in reversed(numbered(self._run)):
            folder = self._path / str(step)
            try:
                verify(folder)
            except (StorageError, OSError) as error:
                bad.append((folder, str(error)))
                continue
            self._set_aside(bad, f"falling back to step {step}")
            self._begin(step)
            return {"step": step}
        # A step with a manifest was complete once: nothing is moved, and no run starts over in its place unasked.
        damaged = [why for folder, why in bad if (folder / MANIFEST).exists()]
        if damaged:
            return {"error": f"{damaged[0]}; no other step of {self._path} is intact: choose another --workdir"}
        self._set_aside(bad, "starting at step 0")  # a kill came before the first save was complete
        self._begin(0)
        return {"step": None}

    def _begin(self, step: int) -> None:
        if self.uploads:
            self.uploads.begin(step)

    def _set_aside(self, bad: list[tuple[pathlib.Path, str]], then: str) -> None:
        for folder, why in bad:
            aside = folder.with_name(folder.name + ".damaged")
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
            say(f"alp: {why}; {then}; checkpoint {folder.name} was moved to {aside}")

    def check_space(self, state: Any, step: int) -> None:
        """Checks that ``state`` (arrays or their shapes) fits into the free space on disk.

        Raises:
          StorageError: it does not; both numbers and the folder are named.
        """
        if not hosts.is_primary():
            return
        needed = _MARGIN + sum(int(np.prod(a.shape)) * a.dtype.itemsize for a in jax.tree.leaves(state))
        free = shutil.disk_usage(self._path).free
        if free < needed:
            raise StorageError(
                f"checkpoint {step} needs {needed / 1e6:,.1f} MB but {free / 1e6:,.1f} MB are free in {self._path}: "
                "make room, or lower config.train.keep (keep_every, keep_minutes, keep_best)"
            )

    def save(self, step: int, state: Any, clock: dict, metrics: dict[str, float] | None = None) -> None:
        """Starts writing ``state`` and ``clock`` as ``step``; first waits for the previous save and raises its error.

        The best checkpoints are chosen by ``metrics`` (by name).

        Raises:
          StorageError: there is no room, or this or the previous save could not be written.
        """
        # Finish the previous save first: two at once might not fit on the disk, and its error would be lost.
        self.wait()
        self.check_space(state, step)
        self.in_flight = True  # before the thread starts: set later, it could overwrite what a quick thread says
        arguments = ocp.args.Composite(state=ocp.args.StandardSave(state), clock=ocp.args.JsonSave(clock))
        try:
            self._writer.save(self._path / str(step), args=arguments)
        except (OSError, ValueError) as error:
            raise StorageError(f"checkpoint {step} in {self._path} was not written: {error}") from error
        if hosts.is_primary():
            self._sealing = threading.Thread(
                target=self._seal, args=(self._path / str(step), clock, metrics or {}), name="seal checkpoint"
            )
            self._sealing.start()

    def _seal(self, folder: pathlib.Path, clock: dict, metrics: dict) -> None:
        """Writes the manifest as soon as Orbax has committed ``folder``, then removes steps that need not stay."""
        try:
            while not folder.is_dir():
                if self._closing.wait(0.02):
                    return
            # In this order, a kill between the two leaves one step too many; in the other it could leave none.
            write_manifest(folder, clock, metrics)
            if self.uploads:
                self.uploads.sealed(int(folder.name))
            else:
                remove_others(self._run, self._keep)
            self.in_flight = False
        except Exception as error:  # this is a thread: poll() or wait() raises it in the loop
            self._error = error

    def poll(self) -> None:
        """Raises what went wrong with the save in flight, if anything is known by now; does not wait.

        Raises:
          StorageError: it could not be written.
        """
        self._checked(self._writer.check_for_errors)

    def wait(self) -> None:
        """Returns when the last save is complete, its manifest included; raises as ``poll`` does."""
        # The writer first: if it failed, the folder never appears, and joining the thread that waits for it would hang.
        self._checked(self._writer.wait_until_finished)
        if self._sealing is not None:
            self._sealing.join()
            self._sealing = None
        self.poll()
        if self._parts:
            self._parts.forget()
        self.in_flight = False

    def _checked(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception as error:  # Orbax wraps its threads' errors in many types, and raises each only once
            self._error = self._error or error
        if self._error is not None:
            raise StorageError(f"a checkpoint in {self._path} was not written: {self._error}") from self._error

    def restore(self, step: int, abstract: Any) -> tuple[Any, dict]:
        """Reads ``step`` into the shapes, dtypes and shardings of ``abstract``; returns (state, clock).

        Raises:
          StorageError: the checkpoint is damaged, or its shapes or types differ; folder, array and both are named.
        """
        folder = self._path / str(step)
        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), clock=ocp.args.JsonRestore())
        try:
            with ocp.StandardCheckpointer() as reader:
                _same_arrays(folder, reader.metadata(folder / "state").item_metadata, abstract)
            restored = self._writer.restore(folder, args=arguments)
        except (OSError, ValueError, KeyError) as error:
            raise StorageError(f"checkpoint {folder} cannot be restored: {error}") from error
        if self._parts:
            self._parts.forget()
        return restored["state"], restored["clock"]

    def close(self) -> None:
        """Waits for the save in flight and releases the folder."""
        try:
            self.wait()
        finally:
            self._closing.set()
            self._writer.close()


def _same_arrays(folder: pathlib.Path, stored: Any, abstract: Any) -> None:
    """Raises StorageError where arrays differ in shape or type: Orbax would convert types without a word."""
    have, need = _arrays(dict(stored)), _arrays(abstract)
    for name in sorted(have.keys() | need.keys()):
        if have.get(name) != need.get(name):
            there, needed = (
                f"{arrays[name][1]}{arrays[name][0]}" if name in arrays else "absent" for arrays in (have, need)
            )
            raise StorageError(f"checkpoint {folder}: {name} is {there} there and {needed} in this configuration")


def stored_arrays(run_dir: storage.Location, step: int | None) -> tuple[int, dict[str, tuple[list[int], str]], dict]:
    """A checkpoint (the last one for None): its step, (shape, dtype) of every array by path, from metadata, its clock.

    Raises:
      UserError: no such run or complete checkpoint.
      StorageError: the metadata cannot be read.
    """
    require_any(run_dir)
    if storage.is_remote(run_dir):
        with local_run(run_dir, [step]) as copy:
            return stored_arrays(copy, step)
    step = require(run_dir, step)
    folder = checkpoints_dir(run_dir) / str(step)
    try:
        with ocp.StandardCheckpointer() as reader:
            stored = reader.metadata(folder / "state").item_metadata
    except (OSError, ValueError, KeyError) as error:
        raise StorageError(f"checkpoint {folder} is damaged: its metadata cannot be read: {error}") from error
    return step, _arrays(dict(stored)), read_manifest(folder)["clock"]


def _arrays(tree: Any) -> dict[str, tuple[list[int], str]]:
    """(shape, dtype) of every leaf by its path."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): (list(leaf.shape), str(np.dtype(leaf.dtype)))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "dtype"))
    }


def load_params(run_dir: storage.Location, step: int | None = None, since: int | None = None) -> tuple[dict, int]:
    """The parameters of a run as nested dictionaries of numpy arrays, and the step they are from.

    For a run that averages its parameters, this is the average.

    Args:
      run_dir: a run folder, or its URL.
      step: which checkpoint; None takes the latest.
      since: an earlier checkpoint of a run with a running average; gives the mean over the steps after it.

    Raises:
      UserError: the run has no such checkpoint, or no average.
      StorageError: it is damaged.
    """
    if storage.is_remote(run_dir):
        with local_run(run_dir, steps_for(step, since)) as copy:
            return load_params(copy, step, since)
    path = checkpoints_dir(run_dir)
    step = require(run_dir, step)
    state = read_checkpoint(path / str(step))
    if since is None:
        return state.get("average", state["params"]), step
    require(run_dir, since)
    train = read_object(path.parent / CONFIG, "run configuration").get("train")
    kind = train.get("average") if isinstance(train, dict) else None
    if kind != "running" or since >= step:
        raise UserError(f"{run_dir}: a mean since step {since} needs config.train.average=running and a later step")
    return range_average(read_checkpoint(path / str(since))["average"], since, state["average"], step), step


def read_checkpoint(folder: str | os.PathLike) -> dict:
    """``params`` and, if there is one, ``average`` of the checkpoint in ``folder``, as numpy arrays.

    Raises:
      StorageError: it is damaged or not complete.
    """
    folder = pathlib.Path(folder)
    verify(folder)
    with ocp.StandardCheckpointer() as checkpointer:
        shapes = checkpointer.metadata(folder / "state").item_metadata
        host = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        abstract = jax.tree.map(lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=host), dict(shapes))
        try:
            state = checkpointer.restore(folder / "state", abstract)
        except (OSError, ValueError, KeyError) as error:
            raise StorageError(f"checkpoint {folder} cannot be restored: {error}") from error
    return {name: jax.tree.map(np.asarray, state[name]) for name in ("params", "average") if name in state}
