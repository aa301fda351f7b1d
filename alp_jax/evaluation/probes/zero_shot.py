"""Classification without a probe: a clip gets the class whose sentence is nearest to its embedding.

Prompts move zero-shot numbers by several points, so there are three results: the first prompt alone, the mean of all
prompts' embeddings (Radford et al. 2021, arXiv 2103.00020, section 3.1.4), and the prompt that is best on the held-out
training clips. The order of classes does not matter: classes that tie share the answer.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json
from alp_jax.evaluation.measured import Measured, from_estimates
from alp_jax.evaluation.probes.tasks import Task
from alp_jax.evaluation.stats import bootstrap, metrics

_DECIMALS = 6  # of similarities: further digits depend on the order in which a matrix product adds
_ANY = ("{}", "a recording of {}", "this is a sound of {}", "{} can be heard")
# tasks whose classes are not words (names of voices, releases) have no prompts
TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "sound_event": ("the sound of {}", *_ANY),
    "drum": ("a drum sound, {}", "a single hit of a {}", "{}"),
    "instrument": ("the sound of a {}", "a note played on a {}", "{}"),
    "language": ("a person speaking {}", "speech in {}", "{}"),
    "emotion": ("a person speaking in a {} voice", "{} speech", "{}"),
    "tone": ("a syllable with {}", "{}"),
    "music_genre": ("{} music", "a piece of {}", "{}"),
    "genre": ("{} music", "a piece of {}", "{}"),
    "tags": _ANY,
}


@dataclasses.dataclass(frozen=True)
class Prompts:
    """``templates`` with one ``{}`` each, and ``texts`` for classes whose names do not read well."""

    templates: tuple[str, ...]
    texts: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def sentences(self, template: str, classes: tuple[str, ...]) -> list[str]:
        """``template`` filled with the words for each class, in the order of ``classes``."""
        return [template.replace("{}", self.texts.get(name, name.replace("_", " "))) for name in classes]


def read_prompts(file: str | pathlib.Path) -> dict[str, Prompts]:
    """The prompts of ``config.evaluation.prompts``; an empty name gives those of ``TEMPLATES``.

    The file is JSON: task -> ``{"templates": ["the sound of {}", ...], "classes": {"label": "words", ...}}``, the
    second part optional. Its tasks replace built-in ones of the same name.

    Raises:
      UserError: the file does not exist or does not have that form.
    """
    known = {name: Prompts(templates) for name, templates in TEMPLATES.items()}
    if not file:
        return known
    if not pathlib.Path(file).is_file():
        raise UserError(f"config.evaluation.prompts: {file} does not exist")
    stored = read_json(file, "prompt file")
    for name, entry in stored.items() if isinstance(stored, dict) else [("the file", stored)]:
        templates, classes = (
            (entry.get(k, {}) for k in ("templates", "classes")) if isinstance(entry, dict) else ({}, {})
        )
        if not isinstance(templates, list) or not templates or not isinstance(classes, dict):
            raise UserError(
                f"{file}: {name} needs a list 'templates', and 'classes', if given, must map labels to words"
            )
        bad = [t for t in templates if not isinstance(t, str) or t.count("{}") != 1]
        if bad:
            raise UserError(f"{file}: {name}: template {bad[0]!r} must contain {{}} exactly once")
        known[name] = Prompts(tuple(templates), {str(label): str(text) for label, text in classes.items()})
    return known


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
