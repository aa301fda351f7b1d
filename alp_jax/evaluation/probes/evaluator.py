"""Labels read off a frozen encoder by a linear probe, an attention probe and, if it has a text tower, by prompts."""

import dataclasses

import numpy as np

from alp_jax.core.run_files import ATTENTION, MEAN, ZERO_SHOT
from alp_jax.evaluation.evaluator import Evaluator, Setup
from alp_jax.evaluation.features import Features
from alp_jax.evaluation.measured import Measured, from_estimates
from alp_jax.evaluation.model import EvalModel
from alp_jax.evaluation.probes.attention_probe import attention_probe
from alp_jax.evaluation.probes.linear_probe import ProbeData, linear_probe
from alp_jax.evaluation.probes.prompts import Prompts, read_prompts
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
            return self._linear(features.mean(task.train_row), features.mean(task.test_row))
        if pooling == ATTENTION:
            train_x, train_len = features.frames(task.train_row, config.attention_frames)
            test_x, test_len = features.frames(task.test_row, config.attention_frames)
            data = ProbeData(train_x, task.train_y, task.held, test_x, len(task.classes))
            logits_SNC, selected = attention_probe(data, train_len, test_len, steps=config.attention_steps)
            return {task.name: score_probe(task, logits_SNC, selected)}

        def embed(texts: list[str]) -> np.ndarray:
            return self.setup.embed_texts(model, texts)

        return {task.name: zero_shot(task, self.prompts, features.joint, embed)}

    def _linear(self, train_x: np.ndarray, test_x: np.ndarray) -> dict[str, Measured]:
        task = self.split
        logits_NC, selected = linear_probe(ProbeData(train_x, task.train_y, task.held, test_x, len(task.classes)))
        return {task.name: score_probe(task, logits_NC, selected)}

    def floor(self, features: Features) -> dict[str, Measured]:
        return self._linear(features.moments(self.split.train_row), features.moments(self.split.test_row))


def score_probe(task: Task, logits: np.ndarray, selected: dict) -> Measured:
    """Accuracy and balanced accuracy of a single-label task, mean average precision of a multi-label one.

    For accuracy, chance is the better of two: always giving the most frequent training class, or answering at random.

    Args:
      logits: [N, C] of the test clips, or [S, N, C] of probes that differ in their seed: the values are means over
        seeds, and the intervals resample seeds as well as clips.

    Raises:
      ValueError: logits are not finite.
    """
    if not np.isfinite(logits).all():
        raise ValueError(f"task {task.name}: the probe's scores are not finite")
    drawn = bootstrap.Resamples(task.test_groups)
    logits_SNC = logits.reshape(-1, *logits.shape[-2:])
    if task.test_y.ndim == 2:
        prevalence_C = task.test_y.mean(0)
        chance = {"map": float(prevalence_C[prevalence_C > 0].mean())}
        estimates = {"map": [metrics.mean_average_precision(logits_NC, task.test_y) for logits_NC in logits_SNC]}
    else:
        correct_SN = logits_SNC.argmax(2) == task.test_y
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
    notes = {"by_seed": by_seed} if len(logits_SNC) > 1 else {}
    return from_estimates(estimates, drawn, chance, notes=notes, selected=selected)
