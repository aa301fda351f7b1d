"""Classification without a probe: a clip gets the class whose sentence is nearest to its embedding.

Prompts move zero-shot numbers by several points, so there are three results: the first prompt alone, the mean of all
prompts' embeddings (Radford et al. 2021, arXiv 2103.00020, section 3.1.4), and the prompt that is best on the held-out
training clips. The order of classes does not matter: classes that tie share the answer.
"""

from collections.abc import Callable

import numpy as np

from alp_jax.evaluation.measured import Measured, from_estimates
from alp_jax.evaluation.probes.prompts import Prompts
from alp_jax.evaluation.probes.tasks import Task
from alp_jax.evaluation.stats import bootstrap, metrics

_DECIMALS = 6  # of similarities: further digits depend on the order in which a matrix product adds


def zero_shot(
    task: Task,
    prompts: Prompts,
    audio: Callable[[np.ndarray], np.ndarray],
    embed: Callable[[list[str]], np.ndarray],
) -> Measured:
    """The three results with intervals, and the prompts.

    Args:
      audio: rows -> float32[N,E] of unit length.
      embed: sentences -> float32[C,E] of unit length.
    """
    text_PCE = np.stack([embed(prompts.sentences(template, task.classes)) for template in prompts.templates])
    held_NE, test_NE = audio(task.train_row[task.held]), audio(task.test_row)
    held = [_value(_similarity(held_NE, text_CE), task.train_y[task.held]) for text_CE in text_PCE]
    best = int(np.argmax(held))
    together_CE = text_PCE.mean(0)
    together_CE /= np.maximum(np.linalg.norm(together_CE, axis=1, keepdims=True), 1e-12)
    drawn = bootstrap.Resamples(task.test_groups)
    metric = "map" if task.test_y.ndim == 2 else "accuracy"
    ways = {"": text_PCE[0], "_ensemble": together_CE, "_best_prompt": text_PCE[best]}
    estimates = {
        metric + suffix: [_estimate(_similarity(test_NE, text_CE), task.test_y)] for suffix, text_CE in ways.items()
    }
    selected = {"prompts": list(prompts.templates), "best_prompt": prompts.templates[best]}
    selected["selection_score"] = held[best]
    return from_estimates(estimates, drawn, dict.fromkeys(estimates, _chance(task)), selected=selected)


def _similarity(audio_NE: np.ndarray, text_CE: np.ndarray) -> np.ndarray:
    return np.round(audio_NE.astype(np.float64) @ text_CE.astype(np.float64).T, _DECIMALS)


def _estimate(similarity_NC: np.ndarray, target: np.ndarray) -> bootstrap.Estimate:
    """Mean average precision of several labels, else accuracy in which classes that tie share a clip."""
    if target.ndim == 2:
        return metrics.mean_average_precision(similarity_NC, target)
    top_NC = similarity_NC == similarity_NC.max(1, keepdims=True)
    right_N = top_NC[np.arange(len(target)), target] / top_NC.sum(1)
    return metrics.mean(right_N)


def _value(similarity_NC: np.ndarray, target: np.ndarray) -> float:
    value = _estimate(similarity_NC, target).value if len(target) else 0.0
    return 0.0 if np.isnan(value) else value


def _chance(task: Task) -> float:
    """What random similarities reach: the mean share of clips with a label, or 1 / C."""
    if task.test_y.ndim == 1:
        return 1 / len(task.classes)
    share_C = task.test_y.mean(0)
    return float(share_C[share_C > 0].mean())
