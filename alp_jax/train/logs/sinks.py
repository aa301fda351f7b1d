"""Where the numbers of a step go: JSON lines, TensorBoard, Weights & Biases; another is a class and a line in SINKS."""

import importlib.util
import json
import os
import pathlib
import uuid
from typing import Protocol

from alp_jax.config import RunConfig, to_dict
from alp_jax.core.errors import UserError
from alp_jax.core.files import write_text
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
        path = run_dir / "metrics.jsonl"
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
            reason = " ".join(str(error).split())
            raise UserError(
                f"config.train.logs: wandb cannot start: {reason}; run 'wandb login', set WANDB_MODE=offline, or leave "
                "wandb out"
            ) from None

    def write(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def close(self) -> None:
        self._run.finish()


SINKS = {"jsonl": JsonLines, "tensorboard": TensorBoard, "wandb": WandB}
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


def open_sinks(run_dir: pathlib.Path, config: RunConfig, first: int) -> list[Sink]:
    """The sinks of ``config.train.logs`` for steps from ``first``."""
    return [SINKS[name](run_dir, config, first) for name in parse_logs(config.train.logs)]


def _step_of(line: str) -> float:
    """The step a line is about; a torn last line counts as one that will be written again."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return float("inf")
