"""The run folder: who may write to it, what it was made with, and what it leaves behind."""

import fcntl
import os
import pathlib
import platform
import subprocess
import sys
from importlib import metadata

import jax

import alp_jax
from alp_jax.config import RunConfig, to_dict
from alp_jax.core import storage
from alp_jax.core.differences import first_difference
from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json, write_bytes, write_json, write_text
from alp_jax.data.dataset import Dataset
from alp_jax.data.text.tokenizer import FILE_NAMES, Tokenizer
from alp_jax.parallel import hosts
from alp_jax.train.lease import Lease

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "soundfile", "sentencepiece")

DONE = "DONE"  # a file that a finished run holds
# settings that may differ when a run goes on: the batches, which their fingerprint stands for, stay the same
_FREE = {
    "train.logs",
    "train.plan",
    "train.profile_steps",
    "train.gc_every",
    "train.keep",
    "train.keep_every",
    "train.keep_minutes",
    "train.keep_best",
    "train.best_metric",
    "train.accept_data_change",
    "data.path",
    "data.workers",
    "data.prefetch_mb",
    "data.shard_cache_gb",
}


class RunDir:
    """An open run folder, locked against other runs until it is closed. Process 0 of a run holds it for all.

    Raises:
      UserError: the folder belongs to another configuration (the first setting that differs is named with both
        values) or to a process that is still running.
    """

    def __init__(self, path: str | os.PathLike, config: RunConfig):
        self.path, self._lock, self._lease = pathlib.Path(path), None, None
        if hosts.is_lead():
            self._take(config)
        hosts.barrier("open the run folder")

    def _take(self, config: RunConfig) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        foreign = [p.name for p in self.path.iterdir()] if not (self.path / "config.json").exists() else []
        if set(foreign) - {".lock", ".lease", "output.txt", "launch"}:
            raise UserError(f"--workdir {self.path} holds {sorted(foreign)[0]} and is no run folder: choose another")
        self._lock = (self.path / ".lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise UserError(
                f"--workdir {self.path} is in use by another process of this host: choose another, or stop it first"
            ) from None
        try:
            self._lease = Lease(self.path)
        except UserError:
            self._lock.close()
            raise
        settings = to_dict(config)
        if (self.path / "config.json").exists():
            held = read_json(self.path / "config.json", "run configuration")
            free = _FREE | ({"data"} if config.train.accept_data_change else set())
            difference = first_difference(_without(held, free), _without(settings, free))
            if difference:
                self.close()
                key, old, new = difference
                raise UserError(f"--workdir {self.path} holds a run with {key} = {old!r}, not {new!r}: choose another")
            if held == settings:
                return
        write_json(self.path / "config.json", settings)

    def close(self) -> None:
        """Gives the folder free; may be called twice."""
        if self._lease is not None:
            self._lease.close()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> "RunDir":
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def write_environment(self, dataset: Dataset, tokenizer: Tokenizer) -> None:
        """Writes ``env.json``, versions, devices, code and data this run was last started with, and its tokenizer."""
        if not hosts.is_lead():
            return
        kept = tokenizer.files()
        for name in set(FILE_NAMES) - set(kept):
            (self.path / name).unlink(missing_ok=True)
        for name, content in kept.items():
            write_bytes(self.path / name, content)
        place = str(dataset.path)
        write_json(
            self.path / "env.json",
            {
                "alp_jax": alp_jax.__version__,
                "git": _git_revision(),
                "python": platform.python_version(),
                "packages": {name: metadata.version(name) for name in _PACKAGES},
                "platform": platform.platform(),
                "cpu_count": os.cpu_count(),
                "devices": [str(device) for device in jax.devices()],
                "processes": jax.process_count(),
                "data": place if storage.is_remote(place) else os.path.abspath(place),
                "data_fingerprint": dataset.fingerprint,
                "tokenizer_sha256": tokenizer.sha256,
                "command": sys.argv[1:],
            },
        )


def mark_done(path: str | os.PathLike) -> None:
    """Leaves ``DONE``: training, and evaluation where it was asked for, are complete."""
    write_text(pathlib.Path(path) / DONE, "")


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
