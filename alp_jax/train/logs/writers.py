"""Where the numbers of a step go: JSON lines, TensorBoard, Weights & Biases; another is a class and a line in SINKS."""

import importlib.util
import json
import os
import pathlib
import uuid
from collections.abc import Callable
from typing import Protocol

from alp_jax.config import RunConfig, to_dict
from alp_jax.core.errors import UserError
from alp_jax.core.files import write_text
from alp_jax.core.run_files import METRICS
from alp_jax.train.logs.events import EventFile


class Sink(Protocol):
    """Takes the numbers of one step after the other. Made by ``SINKS[name](run_dir, config, first)``.

    ``first`` is the first step that will come: a run that resumes computes some steps again.
    """

    def write(self, step: int, values: dict[str, float]) -> None:
        """Takes ``values`` of ``step`` (0-based)."""

    def close(self) -> None:
        """Everything taken is stored or sent."""


class JsonLines:
    """``metrics.jsonl``, a line a step. Lines of steps that come again are dropped, so every step is there once."""

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


class TensorBoard(EventFile):
    """Event files in ``tensorboard/``, one for each start of the run."""

    def __init__(self, run_dir: pathlib.Path, config: RunConfig, first: int):
        super().__init__(run_dir / "tensorboard", first)


class WandB:
    """A run of Weights & Biases, found again by the id in ``wandb_id.txt``; WANDB_MODE, WANDB_PROJECT and so on hold.

    Of steps that come again W&B keeps what it was given first.
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
            raise UserError(f"{_said(error)}; run 'wandb login' or set WANDB_MODE=offline") from None

    def write(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def close(self) -> None:
        self._run.finish()


SINKS = {"jsonl": JsonLines, "tensorboard": TensorBoard, "wandb": WandB}
RECORD = "jsonl"  # what a run leaves behind is read from it
PACKAGES = {"wandb": "pip install 'alp_jax[wandb]'"}  # those that a sink of that name needs


def parse_logs(text: str) -> tuple[str, ...]:
    """The sinks that ``config.train.logs`` names.

    Raises:
      UserError: one of them is unknown, named twice, or its package is not installed.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in SINKS:
            raise UserError(f"config.train.logs={text!r}: {name!r} is none of {', '.join(SINKS)}")
        if names.count(name) > 1:
            raise UserError(f"config.train.logs={text!r} names {name!r} twice: name it once")
        if name in PACKAGES and importlib.util.find_spec(name) is None:
            raise UserError(f"config.train.logs={text!r}: the package {name} is not installed: {PACKAGES[name]}")
    return names


class Sinks:
    """The sinks of ``config.train.logs`` for steps from ``first``.

    One that fails while it writes, or cannot start when a run resumes, is left out from there on, with one warning, and
    the run goes on: the numbers are in ``metrics.jsonl``. That file is the run's own record: what it raises is raised.

    Args:
      warn: takes the warning.

    Raises:
      UserError: a sink cannot start, and nothing has been trained yet.
    """

    def __init__(self, run_dir: pathlib.Path, config: RunConfig, first: int, warn: Callable[[str], None]):
        self._warn = warn
        self._open: dict[str, Sink] = {}
        for name in parse_logs(config.train.logs):
            try:
                self._open[name] = SINKS[name](run_dir, config, first)
            except Exception as error:  # whatever a service or its package raises
                if name == RECORD:
                    raise
                if not first:
                    raise UserError(
                        f"config.train.logs: {name} cannot start: {_said(error)}; or leave it out"
                    ) from None
                warn(f"{name} cannot start and is left out: {_said(error)}")

    def write(self, step: int, values: dict[str, float]) -> None:
        """Hands ``values`` of ``step`` (0-based) to every sink."""
        self._each(lambda sink: sink.write(step, values), f"at step {step}")

    def close(self) -> None:
        """Everything taken is stored or sent."""
        self._each(lambda sink: sink.close(), "as it was closed")

    def _each(self, call: Callable[[Sink], None], when: str) -> None:
        for name in list(self._open):
            try:
                call(self._open[name])
            except Exception as error:  # whatever a service or its package raises, the training is worth more
                if name == RECORD:
                    raise
                del self._open[name]
                self._warn(f"{name} failed {when} and is left out from here on: {_said(error)}; {self._left()}")

    def _left(self) -> str:
        return (
            f"{' and '.join(self._open)} go{'es' * (len(self._open) == 1)} on" if self._open else "only log.txt is left"
        )


def _said(error: Exception) -> str:
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())[:300]


def _step_of(line: str) -> float:
    """The step a line is about; a torn last line counts as one that will be written again."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return float("inf")
