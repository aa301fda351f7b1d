"""Where the numbers of a step go: JSON lines, TensorBoard, Weights & Biases; WRITERS has an entry for each."""

import importlib.util
import json
import os
import pathlib
import socket
import struct
import time
import uuid
from collections.abc import Callable
from typing import Protocol

from alp_jax.config import RunConfig, to_dict
from alp_jax.core.errors import UserError
from alp_jax.core.files import write_text
from alp_jax.core.run_files import METRICS
from alp_jax.data.store.records import frame


class Writer(Protocol):
    """Takes the numbers of one step after the other. Made by ``WRITERS[name](run_dir, config, first)``.

    ``first`` is the first step that will come: a run that resumes computes some steps again.
    """

    def write(self, step: int, values: dict[str, float]) -> None:
        """Takes ``values`` of ``step`` (0-based)."""

    def close(self) -> None:
        """Everything taken is stored or sent."""


class JsonLines:
    """``metrics.jsonl``, a line per step. Lines of steps that are computed again are dropped, so each appears once."""

    def __init__(self, run_dir: pathlib.Path, config: RunConfig, first: int):
        path = run_dir / METRICS
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _step_of(line) < first]
            write_text(path, "".join(line + "\n" for line in kept))
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, values: dict[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **values}, sort_keys=True) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


class EventFile:
    """A new event file in ``folder``. With ``first`` above 0 TensorBoard forgets what older files say from there on."""

    def __init__(self, folder: pathlib.Path, first: int):
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
        number = 0
        while (path := folder / f"{stem}.{number}").exists():  # begun in the same second
            number += 1
        self._file = path.open("xb")
        self._file.write(_event(0, _field(3, b"brain.Event:2")))
        if first:
            self._file.write(_event(first, _field(7, _field(1, _SESSION_START, _VARINT))))
        self._file.flush()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Adds scalars of ``step``, stored as float32."""
        summary = b"".join(
            _field(1, _field(1, name.encode()) + _field(2, _float32(value), _FIXED32)) for name, value in values.items()
        )
        self._file.write(_event(step, _field(5, summary)))
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class TensorBoard(EventFile):
    """Event files in ``tensorboard/``, one for each start of the run."""

    def __init__(self, run_dir: pathlib.Path, config: RunConfig, first: int):
        super().__init__(run_dir / "tensorboard", first)


class WandB:
    """A run of Weights & Biases, found again by the id in ``wandb_id.txt``; WANDB_MODE, WANDB_PROJECT and so on hold.

    For steps that are computed again, W&B keeps the first values.
    """

    def __init__(self, run_dir: pathlib.Path, config: RunConfig, first: int):
        import wandb

        path = run_dir / "wandb_id.txt"
        if not path.exists():
            write_text(path, uuid.uuid4().hex[:16] + "\n")
        name = path.read_text().strip()
        try:
            self._run = wandb.init(id=name, resume="allow", dir=str(run_dir), name=run_dir.name, config=to_dict(config))
        except wandb.Error as error:
            raise UserError(f"{_explained(error)}; run 'wandb login' or set WANDB_MODE=offline") from None

    def write(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def close(self) -> None:
        self._run.finish()


WRITERS: dict[str, Callable[[pathlib.Path, RunConfig, int], Writer]] = {
    "jsonl": JsonLines,
    "tensorboard": TensorBoard,
    "wandb": WandB,
}
RECORD = "jsonl"  # what a run leaves behind is read from it
PACKAGES = {"wandb": "pip install 'alp_jax[wandb]'"}  # those that a writer of that name needs


def parse_logs(text: str) -> tuple[str, ...]:
    """The writers that ``config.train.logs`` names.

    Raises:
      UserError: one of them is unknown, named twice, or its package is not installed.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in WRITERS:
            raise UserError(f"config.train.logs={text!r}: {name!r} is not one of {', '.join(WRITERS)}")
        if names.count(name) > 1:
            raise UserError(f"config.train.logs={text!r} names {name!r} twice: name it once")
        if name in PACKAGES and importlib.util.find_spec(name) is None:
            raise UserError(f"config.train.logs={text!r}: the package {name} is not installed: {PACKAGES[name]}")
    return names


class Writers:
    """The writers of ``config.train.logs`` for steps from ``first``.

    A writer that fails while writing, or cannot start when a run resumes, is dropped with one warning and the run
    continues: the numbers are in ``metrics.jsonl``. That file is the run's own record, so its errors are raised.

    Args:
      warn: receives the warning.

    Raises:
      UserError: a writer cannot start, and nothing has been trained yet.
    """

    def __init__(self, run_dir: pathlib.Path, config: RunConfig, first: int, warn: Callable[[str], None]):
        self._warn = warn
        self._open: dict[str, Writer] = {}
        for name in parse_logs(config.train.logs):
            try:
                self._open[name] = WRITERS[name](run_dir, config, first)
            except Exception as error:  # whatever a service or its package raises
                if name == RECORD:
                    raise
                if not first:
                    raise UserError(
                        f"config.train.logs: {name} cannot start: {_explained(error)}; or leave it out"
                    ) from None
                warn(f"{name} cannot start and is left out: {_explained(error)}")

    def write(self, step: int, values: dict[str, float]) -> None:
        """Hands ``values`` of ``step`` (0-based) to every writer."""
        self._each(lambda writer: writer.write(step, values), f"at step {step}")

    def close(self) -> None:
        """Everything taken is stored or sent."""
        self._each(lambda writer: writer.close(), "while it was closed")

    def _each(self, call: Callable[[Writer], None], when: str) -> None:
        for name in list(self._open):
            try:
                call(self._open[name])
            except Exception as error:  # whatever a service or its package raises, the training is worth more
                if name == RECORD:
                    raise
                del self._open[name]
                self._warn(f"{name} failed {when} and is left out from here on: {_explained(error)}; {self._left()}")

    def _left(self) -> str:
        return (
            f"{' and '.join(self._open)} continue{'s' * (len(self._open) == 1)}"
            if self._open
            else "only log.txt is left"
        )


def _explained(error: Exception) -> str:
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())[:300]


def _step_of(line: str) -> float:
    """The step a line is about; a torn last line counts as one that will be written again."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return float("inf")


# TensorBoard's files are TFRecord frames around Event messages, of which scalars and session starts are written. Field
# numbers are those of tensorboard/compat/proto: event.proto, summary.proto. The packages that write these files load
# torch wherever it is installed, or need TensorFlow.
_SESSION_START = 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of protocol buffers


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _field(number: int, value: int | bytes, wire: int = _BYTES) -> bytes:
    """A field of a message; ``value`` is what follows the key: an integer, or bytes of the wire type's length."""
    key = _varint(number << 3 | wire)
    if isinstance(value, int):
        return key + _varint(value)
    return key + (_varint(len(value)) if wire == _BYTES else b"") + value


def _event(step: int, content: bytes) -> bytes:
    wall_time = _field(1, struct.pack("<d", time.time()), _FIXED64)
    return frame(wall_time + _field(2, step, _VARINT) + content)


def _float32(value: float) -> bytes:
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", float("inf") if value > 0 else float("-inf"))
