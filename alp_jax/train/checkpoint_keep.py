"""Which checkpoints stay: the latest, every so many steps, every so many minutes, and the best."""

import dataclasses
import math
import pathlib
import shutil

from alp_jax.config.schema import TrainConfig
from alp_jax.core.errors import UserError
from alp_jax.core.metrics import METRICS
from alp_jax.train.checkpoint_manifest import checkpoints_dir, complete, numbered, read_manifest


@dataclasses.dataclass(frozen=True)
class Keep:
    """What retention leaves; the union of its rules.

    Attributes:
      last: how many of the latest steps; at least one.
      every: steps that are multiples of it; 0: no such rule.
      minutes: one step in so many minutes of training; 0: no such rule.
      best: how many with the best ``metric``.
      metric: name of a metric, mean since the save before; lower is better, or higher with ``+`` in front.
    """

    last: int = 1
    every: int = 0
    minutes: float = 0.0
    best: int = 0
    metric: str = "loss"

    def __post_init__(self):
        if self.last < 1:
            raise UserError(f"config.train.keep is {self.last}: at least one checkpoint has to stay")
        for name in ("every", "minutes", "best"):
            if getattr(self, name) < 0:
                raise UserError(f"config.train.keep_{name} is {getattr(self, name)}: it cannot be negative")
        known = METRICS.get(self.metric.rpartition("/")[2])
        if self.best and known and known.direction > 0:
            raise UserError(
                f"config.train.best_metric is {self.metric}, of which higher is better: write +{self.metric}"
            )

    @classmethod
    def of(cls, config: TrainConfig) -> "Keep":
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


def remove_others(run_dir: pathlib.Path, keep: Keep) -> None:
    """Removes complete steps that no rule keeps, and steps before the last complete one that never were complete.

    A step is renamed before it is removed, so that a kill leaves no half of a step under its number.
    """
    root, whole = checkpoints_dir(run_dir), complete(run_dir)
    stay = kept(keep, {step: read_manifest(root / str(step)) for step in whole})
    for step in numbered(run_dir):
        if step not in stay and whole and step < whole[-1]:
            gone = root / f"trash-{step}"
            shutil.rmtree(gone, ignore_errors=True)
            (root / str(step)).rename(gone)
            shutil.rmtree(gone)
