"""Labels read off a frozen encoder by a linear probe, an attention probe and, if it has a text tower, by prompts."""

import dataclasses

import numpy as np

from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.run_files import ATTENTION, MEAN, ZERO_SHOT
from alp_jax.evaluation.budget import MemoryBudget
from alp_jax.evaluation.evaluator import Evaluator, Setup
from alp_jax.evaluation.features import Features
from alp_jax.evaluation.measured import Measured, from_estimates
from alp_jax.evaluation.model import EvalModel
from alp_jax.evaluation.probes.attention_probe import attention_probe
from alp_jax.evaluation.probes.data import ProbeData, Reader
from alp_jax.evaluation.probes.linear_probe import linear_probe
from alp_jax.evaluation.probes.prompts import Prompts, read_prompts
from alp_jax.evaluation.probes.sizes import TaskSize, task_size
from alp_jax.evaluation.probes.tasks import Task, build_tasks
from alp_jax.evaluation.probes.zero_shot import zero_shot
from alp_jax.evaluation.stats import bootstrap, metrics
from alp_jax.evaluation.table import Shortage


class ProbeEvaluator(Evaluator):
    """The probes of one label or set of tags."""

    def __init__(self, task: Task, setup: Setup, prompts: Prompts | None):
        super().__init__(task, setup)
        self.names, self.prompts = (task.name,), prompts

    @classmethod
    def find(cls, setup: Setup) -> tuple[list[Evaluator], dict[str, Shortage]]:
        tasks, shortages = build_tasks(setup.table, setup.config)
        prompts = read_prompts(setup.config.prompts)
        return [cls(task, setup, prompts.get(name)) for name, task in tasks.items()], shortages

    @classmethod
    def identity(cls, setup: Setup) -> list:
        return [dataclasses.asdict(prompts) for prompts in read_prompts(setup.config.prompts).values()]

    def poolings(self, model: EvalModel) -> tuple[str, ...]:
        return (MEAN, ATTENTION, *((ZERO_SHOT,) if model.compares_text and self.prompts else ()))

    def measure(self, features: Features, model: EvalModel, pooling: str) -> dict[str, Measured]:
        task, config = self.split, self.setup.config
        if pooling == MEAN:
            return self._linear(features, features.mean)
        if pooling == ATTENTION:
            most = config.attention_frames or features.longest(task.train_row, task.test_row)
            found, selected = attention_probe(
                self._data(lambda rows: features.frames(rows, most)),
                epochs=config.probe_epochs,
                least=config.attention_steps,
                budget=MemoryBudget.of(config),
                saves=features.saves(task.name, task.split_hash, most),
            )
            return {task.name: score_probe(task, found, selected)}

        def embed(texts: list[str]) -> np.ndarray:
            return self.setup.embed_texts(model, texts)

        return {task.name: zero_shot(task, self.prompts, features.joint, embed)}

    def _data(self, read: Reader) -> ProbeData:
        """The task's clips, of which ``read`` gives the features by their rows in the data set."""
        task = self.split
        readers = [lambda at, rows=rows: read(rows[at]) for rows in (task.train_row, task.test_row)]
        return ProbeData(readers[0], task.train_y, task.held, readers[1], len(task.test_row), len(task.classes))

    def _linear(self, features: Features, read: Reader) -> dict[str, Measured]:
        task, config = self.split, self.setup.config
        found, selected = linear_probe(
            self._data(read),
            epochs=config.probe_epochs,
            budget=MemoryBudget.of(config),
            saves=features.saves(task.name, task.split_hash),
        )
        return {task.name: score_probe(task, found, selected)}

    def size(self) -> TaskSize:
        task, setup = self.split, self.setup
        train_s, test_s = (
            np.minimum(setup.dataset.num_samples[rows] / SAMPLE_RATE, setup.config.max_seconds)
            for rows in (task.train_row, task.test_row)
        )
        return task_size(task.held, len(task.classes), train_s, test_s, multi=task.train_y.ndim == 2)

    def floor(self, features: Features) -> dict[str, Measured]:
        return self._linear(features, features.moments)


def score_probe(task: Task, found: np.ndarray, selected: dict) -> Measured:
    """Accuracy and balanced accuracy of a single-label task, mean average precision of a multi-label one.

    For accuracy, chance is the better of two: always giving the most frequent training class, or answering at random.

    Args:
      found: int[N], the class that each test clip got, or logits float[N,C] of a multi-label task; with an axis in
        front for probes that differ in their seed: the values are means over seeds, and the intervals resample seeds
        as well as clips.

    Raises:
      ValueError: logits are not finite.
    """
    drawn = bootstrap.Resamples(task.test_groups)
    found_S = found.reshape(-1, *found.shape[found.ndim - task.test_y.ndim :])
    if task.test_y.ndim == 2:
        if not np.isfinite(found).all():
            raise ValueError(f"task {task.name}: the probe's scores are not finite")
        prevalence_C = task.test_y.mean(0)
        chance = {"map": float(prevalence_C[prevalence_C > 0].mean())}
        estimates = {"map": [metrics.mean_average_precision(logits_NC, task.test_y) for logits_NC in found_S]}
    else:
        correct_SN = found_S == task.test_y
        majority = float((task.test_y == np.bincount(task.train_y).argmax()).mean())
        chance = {
            "accuracy": max(majority, 1 / len(task.classes)),
            "balanced_accuracy": 1 / len(np.unique(task.test_y)),
        }
        estimates = {
            "accuracy": [metrics.mean(correct_N) for correct_N in correct_SN],
            "balanced_accuracy": [metrics.balanced_accuracy(correct_N, task.test_y) for correct_N in correct_SN],
        }
    by_seed = {name: [estimate.value for estimate in of_seeds] for name, of_seeds in estimates.items()}
    notes = {"by_seed": by_seed} if len(found_S) > 1 else {}
    return from_estimates(estimates, drawn, chance, notes=notes, selected=selected)
