"""The run folder: who may write to it, which settings made it, and what a run leaves in it."""

import fcntl
import json
import math
import os
import pathlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any, TextIO

import jax
import numpy as np

import alp_jax
from alp_jax.config import RunConfig, to_dict
from alp_jax.config.domain import settings_of
from alp_jax.config.resolve import as_stored
from alp_jax.core import storage
from alp_jax.core.differences import first_difference
from alp_jax.core.errors import AlpError, Preempted, StorageError, UserError
from alp_jax.core.files import read_object, write_bytes, write_json
from alp_jax.core.progress import say, stage
from alp_jax.core.run_files import (
    CONFIG,
    CONFIG_CHANGES,
    DONE,
    ENVIRONMENT,
    LAUNCHES,
    LEASE,
    LOCK,
    OUTPUT,
    RESULTS,
    SUMMARY,
    failure_files,
    result_files,
)
from alp_jax.data.store.dataset import Dataset
from alp_jax.data.text.tokenizer import FILE_NAMES, Tokenizer
from alp_jax.optim.optimizer import learning_rate
from alp_jax.parallel import hosts
from alp_jax.train.checkpoint_folder import Keep, complete
from alp_jax.train.lease import Lease, StoreLease
from alp_jax.train.parts import FETCH_S, HostParts
from alp_jax.train.remote_run import stage_of
from alp_jax.train.uploads import IDENTITY, Uploads

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "soundfile", "sentencepiece")

# settings that may differ when a run goes on; those of the data leave its order as it is, which a fingerprint watches
FREE = {one.name for one in settings_of(RunConfig) if one.domain.free}

_LEAVE_S = 10.0  # for uploads, when a run is told to go at once


class RunDir:
    """An open run folder, locked against other runs until it is closed. Process 0 of a run holds it for all.

    A run may resume with other values of the ``FREE`` settings and, with ``extend``, for more steps; ``write_changes``
    records both.

    Attributes:
      path: the local folder; of a run in an object store that is its stage, see ``train.uploads``.
      uploads: of a run in an object store, on process 0.
      lease: of process 0; once it is lost, another process has taken over the run.
      parts: of a run in an object store: how checkpoints come from and go to other hosts.

    Raises:
      UserError: the folder belongs to another configuration (the first setting that differs is named with both
        values) or to a process that is still running, or is in a store that cannot be reached.
      StorageError: the store cannot be read or written.
    """

    def __init__(self, path: storage.Location, config: RunConfig, *, extend: bool = False):
        self._given = os.fspath(path)
        remote = storage.is_remote(path)
        self.path = stage_of(self._given) if remote else storage.local(path)
        self.uploads: Uploads | None = None
        self.parts: HostParts | None = None
        self._lock: TextIO | None = None
        self.lease: Lease | StoreLease | None = None
        self._change: tuple[dict, dict] | None = None  # the line to write, and the settings
        if hosts.is_primary():
            self._lock_folder()
            try:
                if remote:
                    self.uploads = _uploads(self.path, self._given, config)
                    self.lease = self.uploads.lease
                else:
                    self.lease = Lease(self.path)
                self._check_settings(config, extend)
            except BaseException:
                self.leave()
                raise
        hosts.barrier("open the run folder", FETCH_S if remote else 60.0)
        if remote:
            identity = hosts.broadcast(self.uploads.identity if self.uploads else "", "which run folder is the run's")
            self.parts = HostParts(self._given, self.path, self.path / IDENTITY, identity)

    def _lock_folder(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        there = [] if storage.size(storage.join(self._given, CONFIG)) >= 0 else storage.names(self._given)
        if foreign := set(there) - {LOCK, LEASE, OUTPUT, LAUNCHES}:
            raise UserError(f"--workdir {self._given} holds {min(foreign)} and is not a run folder: choose another")
        lock = (self.path / LOCK).open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise UserError(
                f"--workdir {self._given} is in use by another process on this host: choose another, or stop it first"
            ) from None
        self._lock = lock

    def _check_settings(self, config: RunConfig, extend: bool) -> None:
        settings = to_dict(config)
        if (self.path / CONFIG).exists():
            held = as_stored(read_object(self.path / CONFIG, "run configuration"))
            if held == settings:
                return
            self._change = self._difference(held, config, extend), settings
        else:
            write_json(self.path / CONFIG, settings)

    def _difference(self, held: dict, config: RunConfig, extend: bool) -> dict:
        """The line of CONFIG_CHANGES from the settings ``held``; UserError where no run can go on with the new ones."""
        train, new = held.get("train"), config.train.steps
        old: Any = train.get("steps") if isinstance(train, dict) else None
        longer = extend and isinstance(old, int) and new > old
        free = FREE | {"train.steps"} | ({"data"} if config.train.accept_data_change else set())
        settings = to_dict(config)
        different = first_difference(_without(held, free), _without(settings, free))
        if different:
            key, before, after = different
            raise UserError(
                f"--workdir {self._given} holds a run with {key} = {before!r}, not {after!r}: choose another"
            )
        if new != old and not longer:
            raise UserError(f"--workdir {self._given} holds a run of {old} steps, not {new}: {_why_not(old, new)}")
        done = complete(self.path)
        step = done[-1] if done else 0
        change: dict[str, Any] = {"step": step, "changed": dict(_changes(held, settings))}
        return change | ({"note": _rate_note(config, old, step)} if longer else {})

    def write_changes(self) -> None:
        """Stores the settings that a run goes on with, once nothing is left that refuses them."""
        if self._change is None:
            return
        change, settings = self._change
        if "note" in change:
            self._reopen(change["step"])
            if self.uploads:
                self.uploads.up_to_date()
        with open(self.path / CONFIG_CHANGES, "a", encoding="utf-8") as file:
            file.write(json.dumps(change) + "\n")
        write_json(self.path / CONFIG, settings)
        if "note" in change:
            old, new = change["changed"]["config.train.steps"]
            say(f"alp: {self._given}: extended from {old} to {new} steps; {change['note']}")

    def _reopen(self, step: int) -> None:
        """Makes a run unfinished again and sets aside results measured up to ``step``, its old end.

        Done before the new length is written, so that no folder has that length and the marks of a finished run.
        """
        (self.path / DONE).unlink(missing_ok=True)
        results = self.path / RESULTS
        files = [self.path / SUMMARY, *result_files(results), *failure_files(results)]
        outdated = [path for path in files if path.is_file()]
        aside = results / f"before_step_{step}"
        if outdated:
            aside.mkdir(parents=True, exist_ok=True)
        for path in outdated:
            path.replace(aside / path.name)

    def close(self) -> None:
        """Releases the folder, once all of it is where it belongs; may be called twice.

        Raises:
          StorageError: a store could not be brought up to date, or another process has taken over.
        """
        try:
            if self.lease and self.lease.lost:
                raise StorageError(self.lease.lost)
            if self.uploads:
                with stage("waiting for uploads", self._given, quiet=True):
                    self.uploads.close()
        finally:
            self._release()

    def leave(self) -> None:
        """Releases the folder of a run that has failed or was told to go: for uploads it waits some seconds only."""
        try:
            if self.uploads:
                self.uploads.close(_LEAVE_S)
        except AlpError as error:
            if not (self.lease and self.lease.lost):  # which the error that ends the run says
                say(f"alp: {error}")
        finally:
            self._release()

    def _release(self) -> None:
        if self.parts is not None:
            self.parts.close()
        if isinstance(self.lease, Lease):  # the other kind is released with the uploads
            self.lease.close()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> "RunDir":
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is None or issubclass(kind, Preempted):
            self.close()
        else:
            self.leave()

    def write_environment(self, dataset: Dataset, tokenizer: Tokenizer) -> None:
        """Writes ``env.json``, versions, devices, code and data this run was last started with, and its tokenizer."""
        if not hosts.is_primary():
            return
        tokenizer_files = tokenizer.files()
        for name in set(FILE_NAMES) - set(tokenizer_files):
            (self.path / name).unlink(missing_ok=True)
        for name, content in tokenizer_files.items():
            write_bytes(self.path / name, content)
        data_path = str(dataset.path)
        if self.uploads:
            self.uploads.start()
            say(f"alp: {self._given} is written in {self.path}, and uploaded from there")
        write_json(
            self.path / ENVIRONMENT,
            {
                "alp_jax": alp_jax.__version__,
                "git": _git_revision(),
                "python": platform.python_version(),
                "packages": {name: metadata.version(name) for name in _PACKAGES},
                "platform": platform.platform(),
                "cpu_count": os.cpu_count(),
                "devices": [str(device) for device in jax.devices()],
                "processes": jax.process_count(),
                "data": data_path if storage.is_remote(data_path) else os.path.abspath(data_path),
                "data_fingerprint": dataset.fingerprint,
                "tokenizer_sha256": tokenizer.sha256,
                "command": sys.argv[1:],
            },
        )


def _uploads(folder: pathlib.Path, url: str, config: RunConfig) -> Uploads:
    try:
        return Uploads(folder, url, Keep.of(config.train))
    except OSError as error:
        raise StorageError(f"--workdir {url} cannot be read: {error}") from None


def mark_done(path: storage.Location) -> None:
    """Leaves ``DONE``: training, and evaluation where it was asked for, are complete."""
    storage.write(storage.join(path, DONE), b"")
    if storage.is_remote(path):
        shutil.rmtree(stage_of(os.fspath(path)).parent, ignore_errors=True)


def _why_not(old: int, new: int) -> str:
    if new > old:
        return f"--extend makes it longer and records that in {CONFIG_CHANGES}; or choose another folder"
    return "a run cannot be made shorter, because its learning rate was scheduled for them; choose another folder"


def _rate_note(config: RunConfig, old: int, step: int) -> str:
    """What a longer horizon does to the learning rate of ``step``, the next one, where the horizon was ``old``."""
    before, after = (float(learning_rate(config.optim, steps)(np.float32(step))) for steps in (old, config.train.steps))
    if math.isclose(before, after, rel_tol=1e-5):
        return f"the learning rate continues from {after:.3g} at step {step}"
    return (
        f"config.optim.schedule={config.optim.schedule} depends on the length: at step {step} the learning rate goes "
        f"from {before:.3g} to {after:.3g}, that of a run of {config.train.steps} steps"
    )


def _changes(old: dict, new: dict, where: str = "config.") -> Iterator[tuple[str, list]]:
    """(dotted name, [old value, new value]) of every setting that differs."""
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _changes(before, after, f"{where}{key}.")
        elif before != after:
            yield where + key, [before, after]


def _without(settings: dict, names: set[str], where: str = "") -> dict:
    """Nested settings less those whose dotted names are given."""
    return {
        key: _without(value, names, f"{where}{key}.") if isinstance(value, dict) else value
        for key, value in settings.items()
        if where + key not in names
    }


def _git_revision() -> str:
    root = pathlib.Path(alp_jax.__file__).parent.parent
    if not (root / ".git").exists():
        return "unknown"
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
