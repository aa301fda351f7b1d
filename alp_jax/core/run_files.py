"""What a run leaves behind, for its writers and readers: the names of its files, and the content of two of them.

    RUN/config.json      settings, resolved            RUN/checkpoints/N/         parameters after N steps
        env.json         versions, devices, data           eval/TASK-POOLING.json one ``Result``
        metrics.jsonl    a line of numbers per step            TASK-POOLING.failed why there is none
        log.txt          the same for people           RUN/summary.json           ``RunSummary``: training is over
        output.txt       what the process printed          DONE                   and so is what was to follow it

A sweep's folder holds its runs as ``runs/RUN``, its state and its ledger. A run's exit status says how it ended, see
``core.errors``.
"""

import dataclasses
import math
import os
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, Self

from alp_jax.core import storage
from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json, read_object, write_json

CONFIG, ENVIRONMENT, METRICS, LOG, OUTPUT = "config.json", "env.json", "metrics.jsonl", "log.txt", "output.txt"
SUMMARY, DONE, CHECKPOINTS, RESULTS, FLOORS = "summary.json", "DONE", "checkpoints", "eval", "floors.json"
CONFIG_CHANGES, DATA_CHANGES, BAD_STEPS = "config_changes.jsonl", "data_changes.jsonl", "bad_steps.jsonl"
LOCK, LEASE = ".lock", ".lease"
LAUNCHES, LAUNCH = "launch", "launch.json"  # LAUNCHES/N/LAUNCH: what was handed to a scheduler
RUNS, SWEEP, LEDGER = "runs", "sweep.json", "ledger.jsonl"  # of a sweep's folder

LEASE_S = 60.0  # an older lease is no longer held; its holder renews it several times within this

# tasks that are not labels of a data set
TEXT_TO_AUDIO, AUDIO_TO_TEXT = RETRIEVAL = ("text_to_audio", "audio_to_text")
CAPTIONING, DETECTION = "captioning", "sound_event_detection"
# poolings: how a task reads the frozen encoder
MEAN, ATTENTION, FRAMES = PROBES = ("mean", "attention", "frames")  # probes that are fitted to its frames
ZERO_SHOT, JOINT, ALIGNMENT = "zero_shot", "joint", "linear_alignment"
LOCKED, DECODER = "lit", "decoder"  # a text side trained on its frozen frames; the one that was trained with it
ANSWERS, JUDGED = "answers", "judge"  # of a language model behind it: scored by rule, rated by another

_KINDS = {  # in words
    str: "a text",
    int: "a whole number",
    float: "a finite number",
    dict: "a JSON object",
    float | None: "a finite number or null",
    list | None: "a list or null",
}


@dataclasses.dataclass(frozen=True)
class RunSummary:
    """What was trained, and with how much; the content of ``SUMMARY``."""

    run: str
    objective: str
    init: str
    model: str
    params: int
    pairs: int
    steps: int
    samples_seen: int
    audio_seconds: float
    flops: float
    seed: int
    wall_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Its fields, as ``SUMMARY`` holds them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Any, path: str | os.PathLike) -> Self:
        """The summary that the file ``path`` holds.

        Raises:
          UserError: a field is missing or of another type; it and ``path`` are named.
        """
        where = f"run summary {path}"
        return cls(**{one.name: _field(content, one.name, one.type, where) for one in dataclasses.fields(cls)})

    @classmethod
    def read(cls, folder: pathlib.Path) -> Self:
        """The summary of the run in ``folder``; a UserError where there is none."""
        return cls.from_json(read_json(folder / SUMMARY, "run summary"), folder / SUMMARY)


@dataclasses.dataclass(frozen=True)
class Result:
    """What a frozen encoder reached on one task with one pooling.

    Attributes:
      metric: the one that the task is known by.
      metrics: name -> ``value``, and ``interval`` (low, high), ``chance`` and ``floor``, each None where there is none.
      facts: everything else that the file states: numbers of clips, how it was measured, digests.
    """

    task: str
    pooling: str
    metric: str
    metrics: Mapping[str, Mapping[str, Any]]
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The content of the file; the numbers of ``metric`` are repeated at the top level."""
        names = {"task": self.task, "pooling": self.pooling, "metric": self.metric}
        return {**self.facts, **names, **self.metrics[self.metric], "metrics": dict(self.metrics)}

    @classmethod
    def from_json(cls, content: Any, path: str | os.PathLike) -> Self:
        """The result that the file ``path`` holds.

        Raises:
          UserError: a field is missing, of another type or not finite; it and ``path`` are named.
        """
        where = f"result {path}"
        task, pooling, metric = (_field(content, name, str, where) for name in ("task", "pooling", "metric"))
        metrics = _field(content, "metrics", dict, where)
        for name, numbers in metrics.items():
            inside = f"{where}: metrics.{name}"
            _field(numbers, "value", float, inside)
            for key in ("chance", "floor"):
                _field(numbers, key, float | None, inside)
            ends = _field(numbers, "interval", list | None, inside)
            if ends is not None and not (len(ends) == 2 and all(_is(end, float) for end in ends)):
                raise UserError(f"{inside}: interval is {ends!r}, not two finite numbers")
        known = {"task", "pooling", "metric", "metrics", *_field(metrics, metric, dict, f"{where}: metrics")}
        return cls(task, pooling, metric, metrics, {key: content[key] for key in content if key not in known})

    @classmethod
    def read(cls, path: pathlib.Path) -> Self:
        """The result in the file ``path``.

        Raises:
          UserError: it is not there, not JSON, or not a result; the message names file and field.
        """
        return cls.from_json(read_json(path, "result"), path)

    def write(self, results: pathlib.Path) -> None:
        """Into the folder ``results``."""
        write_json(result_file(results, self.task, self.pooling), self.to_json())


def result_file(results: pathlib.Path, task: str, pooling: str) -> pathlib.Path:
    """Where the result of a task is kept in the folder ``results``."""
    return results / f"{task}-{pooling}.json"


def failure_file(results: pathlib.Path, task: str, pooling: str) -> pathlib.Path:
    """Holds the reason why a task has no result."""
    return results / f"{task}-{pooling}.failed"


def result_files(results: pathlib.Path) -> Iterator[pathlib.Path]:
    """The files of all results in the folder ``results``, in order of their names; none where it does not exist."""
    return iter(sorted(results.glob("*.json")))


def failure_files(results: pathlib.Path) -> Iterator[pathlib.Path]:
    """The files of all failures in the folder ``results``, in order of their names; none where it does not exist."""
    return iter(sorted(results.glob("*.failed")))


def settings_in(folder: storage.Location) -> dict[str, Any] | None:
    """The content of ``CONFIG`` of a run or an import; None where ``folder``, a path or a URL, is neither.

    Raises:
      UserError: it, or the store, cannot be read.
    """
    if storage.is_remote(folder):
        storage.check_run_folder(folder, "run folder")
    path = storage.join(folder, CONFIG)
    return read_object(path, "run configuration", storage.read) if storage.size(path) >= 0 else None


def is_done(folder: storage.Location) -> bool:
    """Whether a run is over, with everything that was to follow its training."""
    return storage.size(storage.join(folder, DONE)) >= 0


def is_leased(folder: storage.Location) -> bool:
    """Whether a process of any host is at work in a run folder, by the clock of this one."""
    try:
        if storage.is_remote(folder):
            claims = storage.join(folder, LEASE)
            last = storage.join(claims, max((name for name in storage.names(claims) if name.isdecimal()), default=""))
            return b'"released": true' not in storage.read(last) and time.time() - storage.modified(last) < LEASE_S
        folder = storage.local(folder)
        return time.time() - (folder / LEASE).stat().st_mtime < LEASE_S
    except FileNotFoundError:
        return False


def _field(content: Any, name: str, kind: Any, where: str) -> Any:
    if not isinstance(content, dict):
        raise UserError(f"{where} is {content!r}, not {_KINDS[dict]}")
    if name not in content:
        raise UserError(f"{where} has no {name!r}")
    if not _is(content[name], kind):
        raise UserError(f"{where}: {name} is {content[name]!r}, not {_KINDS[kind]}")
    return content[name]


def _is(value: Any, kind: Any) -> bool:
    """Whether a JSON value is of a type; integers are floats too, and true is not a number."""
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        return False
    return isinstance(value, kind) or (isinstance(value, int) and isinstance(0.0, kind))
