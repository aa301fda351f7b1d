"""The folder of checkpoints: which steps are intact, by a manifest of SHA-256 hashes, and which of them stay.

Orbax commits a step atomically, but does not notice a flipped bit in an array's file, and takes an empty folder whose
name is a number for a step. Here a step counts only when its manifest exists and lists exactly the files present.
"""

import dataclasses
import hashlib
import json
import math
import os
import pathlib
import shutil
import time
from collections.abc import Collection, Iterator
from typing import Any

from alp_jax.config.schema import TrainConfig
from alp_jax.core import files, storage
from alp_jax.core.errors import StorageError, UserError
from alp_jax.core.metrics import METRICS
from alp_jax.core.run_files import CHECKPOINTS

MANIFEST = "manifest.json"


def checkpoints_dir(run_dir: str | os.PathLike) -> pathlib.Path:
    """Of a local run folder."""
    return storage.local(run_dir).absolute() / CHECKPOINTS


def step_folder(run_dir: storage.Location, step: int) -> str:
    """Path or URL of a checkpoint of the run in a path or URL."""
    root = run_dir if storage.is_remote(run_dir) else storage.local(run_dir).absolute()
    return storage.join(root, f"{CHECKPOINTS}/{step}")


def write_manifest(folder: pathlib.Path, clock: dict, metrics: dict[str, float]) -> None:
    """Hashes every file of a committed step and makes files, folder and manifest durable."""
    sizes = _sizes(folder)
    content = {
        "saved": time.time(),
        "clock": clock,
        "metrics": metrics,
        "files": {name: [size, files.sha256(folder / name)] for name, size in sizes.items()},
    }
    for part in [folder, *(p for p in folder.rglob("*") if p.is_dir())]:
        _sync(part)
    files.write_json(folder / MANIFEST, content)
    _sync(folder)
    _sync(folder.parent)


def read_manifest(folder: storage.Location) -> dict:
    """The manifest of a step.

    Raises:
      StorageError: there is none, so the step was never completed, or it is damaged.
    """
    try:
        manifest = json.loads(storage.read(storage.join(folder, MANIFEST)))
        _check_manifest(manifest)
        return manifest
    except FileNotFoundError:
        raise StorageError(f"checkpoint {folder} has no {MANIFEST}: it was not completed") from None
    except (OSError, ValueError) as error:
        raise StorageError(f"checkpoint {folder} is damaged: {MANIFEST}: {error}") from None


def _check_manifest(manifest: Any) -> None:
    """Raises ValueError that says what ``write_manifest`` would not have written."""
    if not isinstance(manifest, dict):
        raise ValueError("it is not a JSON object")
    for name in ("files", "clock", "metrics"):
        if not isinstance(manifest.get(name), dict):
            raise ValueError(f"{name!r} is not a JSON object")
    if not _is_number(manifest.get("saved")):
        raise ValueError("'saved' is not a number")
    if manifest["files"].keys() <= {MANIFEST}:
        raise ValueError("it lists no files")
    for name, entry in manifest["files"].items():
        if not (isinstance(entry, list) and [type(part) for part in entry] == [int, str]):
            raise ValueError(f"the entry of {name!r} is not its size and SHA-256")
    for name, value in manifest["metrics"].items():
        if not _is_number(value):
            raise ValueError(f"metric {name!r} is not a number")
    if not _is_number(manifest["clock"].get("train_seconds", 0.0)):
        raise ValueError("'train_seconds' is not a number")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def verify(folder: storage.Location, *, contents: bool = True) -> dict:
    """Checks a step against its manifest and returns that; with ``contents`` False only names and sizes are compared.

    Raises:
      StorageError: the step is not complete or a file is damaged; the file is named.
    """
    manifest = read_manifest(folder)
    listed, sizes = manifest["files"], _sizes(folder)
    for name in sorted(listed.keys() | sizes.keys()):
        if name not in sizes:
            raise StorageError(f"checkpoint {folder} is damaged: {name} is missing")
        if name not in listed:
            raise StorageError(f"checkpoint {folder} is damaged: {name} does not belong to it")
        size, digest = listed[name]
        if sizes[name] != size:
            raise StorageError(f"checkpoint {folder} is damaged: {name} has {sizes[name]} bytes, not {size}")
        if contents and _sha256(storage.join(folder, name)) != digest:
            raise StorageError(f"checkpoint {folder} is damaged: {name} does not have the SHA-256 given in {MANIFEST}")
    return manifest


def numbered(run_dir: storage.Location) -> list[int]:
    """Steps that have a folder, in order, intact or not."""
    if storage.is_remote(run_dir):
        names = {name.partition("/")[0] for name in _objects(run_dir)}
    else:
        root = checkpoints_dir(run_dir)
        names = {p.name for p in root.iterdir() if p.is_dir()} if root.is_dir() else set()
    return sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)


def complete(run_dir: storage.Location) -> list[int]:
    """Steps whose manifest is there, in order; file contents are not looked at."""
    if storage.is_remote(run_dir):
        there = _objects(run_dir)
        return [step for step in numbered(run_dir) if f"{step}/{MANIFEST}" in there]
    root = checkpoints_dir(run_dir)
    return [step for step in numbered(run_dir) if (root / str(step) / MANIFEST).is_file()]


def _objects(url: storage.Location) -> dict[str, int]:
    return storage.tree(storage.join(url, CHECKPOINTS))


def require(run_dir: storage.Location, step: int | None) -> int:
    """``step``, or the last complete one.

    Raises:
      UserError: the run has no such complete checkpoint.
    """
    have = complete(run_dir)
    if have and step in (None, *have):
        return have[-1] if step is None else step
    which = "" if step is None else f" {step}"
    listed = f"it has {', '.join(map(str, have))}" if have else "it has none that is complete"
    raise UserError(f"{run_dir} has no checkpoint{which}: {listed}")


def require_any(run_dir: storage.Location) -> list[int]:
    """Steps that have a folder, intact or not.

    Raises:
      UserError: no such run, or it has none, or it is in a store that cannot be reached.
    """
    storage.check_run_folder(run_dir, "run folder")
    if not storage.names(run_dir) and not (storage.is_remote(run_dir) or storage.local(run_dir).is_dir()):
        raise UserError(f"{run_dir} does not exist or is not a folder: give the folder of a run")
    steps = numbered(run_dir)
    if not steps:
        raise UserError(f"{run_dir} has no checkpoints: give the folder of a run that saved one")
    return steps


def inventory(run_dir: storage.Location) -> list[dict]:
    """Step, bytes, time and metrics of every checkpoint, and whether all its files are there, else the ``fault``."""
    rows = []
    for step in require_any(run_dir):
        folder = step_folder(run_dir, step)
        size = sum(storage.tree(folder).values())
        row: dict[str, Any] = {"step": step, "bytes": size, "saved": None, "metrics": {}, "whole": False, "fault": ""}
        try:
            manifest = verify(folder, contents=False)
            row |= {"saved": manifest["saved"], "metrics": manifest["metrics"], "whole": True}
        except StorageError as error:
            row["fault"] = str(error)
        rows.append(row)
    return rows


def verify_all(run_dir: storage.Location, step: int | None = None) -> Iterator[tuple[int, str, dict]]:
    """Reads every byte of every complete checkpoint, or of one; yields (step, folder, its files) of each intact one.

    Raises:
      UserError: no such run or checkpoint.
      StorageError: raised after all were read if some are damaged; the first is named.
    """
    require_any(run_dir)
    last = require(run_dir, step)
    steps, damaged = [last] if step is not None else complete(run_dir), []
    for one in steps:
        folder = step_folder(run_dir, one)
        try:
            files_of_step = verify(folder)["files"]
        except (StorageError, OSError) as error:
            if storage.names(folder):  # otherwise a run that is still going removed it meanwhile
                damaged.append(str(error))
            continue
        yield one, folder, files_of_step
    if damaged:
        more = f"; {len(damaged) - 1} more of {len(steps)} checkpoints are damaged" if damaged[1:] else ""
        raise StorageError(damaged[0] + more)


def _sizes(folder: storage.Location) -> dict[str, int]:
    """Bytes by relative path of all files except the manifest and interrupted writes."""
    return {
        name: size
        for name, size in storage.tree(folder).items()
        if name != MANIFEST and not name.rpartition("/")[2].startswith(f".{MANIFEST}.")
    }


def _sha256(path: str) -> str:
    if not storage.is_remote(path):
        return files.sha256(path)
    digest = hashlib.sha256()
    with storage.open_binary(path) as file:
        while part := file.read(1 << 24):
            digest.update(part)
    return digest.hexdigest()


def _sync(folder: pathlib.Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclasses.dataclass(frozen=True)
class Keep:
    """Which checkpoints are kept: the union of these rules.

    Attributes:
      last: how many of the latest steps; at least one.
      every: steps that are multiples of it; 0 turns the rule off.
      minutes: one step per this many minutes of training; 0 turns the rule off.
      best: how many with the best ``metric``.
      metric: name of a metric, averaged since the previous save; lower is better, or higher with ``+`` in front.
    """

    last: int = 1
    every: int = 0
    minutes: float = 0.0
    best: int = 0
    metric: str = "loss"

    def __post_init__(self) -> None:
        known = METRICS.get(self.metric.rpartition("/")[2])
        if self.best and known and known.direction > 0:
            raise UserError(
                f"config.train.best_metric is {self.metric}, for which higher is better: write +{self.metric}"
            )

    @classmethod
    def of(cls, config: TrainConfig) -> "Keep":
        """The rules that ``config.train`` gives."""
        return cls(config.keep, config.keep_every, config.keep_minutes, config.keep_best, config.best_metric)


def kept(keep: Keep, manifests: dict[int, dict]) -> set[int]:
    """The steps of ``manifests`` (by step) that stay."""
    steps = sorted(manifests)
    stay = set(steps[-keep.last :])
    if keep.every:
        stay |= {step for step in steps if step % keep.every == 0}
    if keep.minutes:
        due = -math.inf
        for step in steps:
            seconds = manifests[step]["clock"].get("train_seconds", 0.0)
            if seconds >= due:
                stay.add(step)
                due = seconds + 60 * keep.minutes
    if keep.best:
        name, sign = keep.metric.lstrip("+"), -1 if keep.metric.startswith("+") else 1
        values = {step: manifests[step]["metrics"].get(name) for step in steps}
        known = [step for step in steps if values[step] is not None]
        stay |= set(sorted(known, key=lambda step: (sign * values[step], -step))[: keep.best])
    return stay


def remove_others(run_dir: pathlib.Path, keep: Keep, spared: Collection[int] = ()) -> None:
    """Removes complete steps that no rule keeps, and incomplete steps older than the last complete one; not ``spared``.

    A step is renamed before it is removed, so that a kill never leaves half a step under its number.
    """
    root, whole = checkpoints_dir(run_dir), complete(run_dir)
    stay = kept(keep, {step: read_manifest(root / str(step)) for step in whole})
    for step in numbered(run_dir):
        if step not in stay and step not in spared and whole and step < whole[-1]:
            gone = root / f"trash-{step}"
            shutil.rmtree(gone, ignore_errors=True)
            (root / str(step)).rename(gone)
            shutil.rmtree(gone)
