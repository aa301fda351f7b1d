"""Answers scored without a judge: the option that was chosen, or the same words as the right answer."""

import collections
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from alp_jax.core.run_files import ANSWERS, Result
from alp_jax.data.text.normalise import normalise
from alp_jax.evaluation.measured import Measured, from_estimates
from alp_jax.evaluation.qa.format import LETTERS, Question
from alp_jax.evaluation.stats import bootstrap, metrics

_END = r"(?=\W*$|[.):,*\n])"  # behind a letter that is no word: "A drum" begins with an article
_FIRST = re.compile(rf"\W*([A-D]){_END}")
_NAMED = re.compile(rf"\b(?:answer|option|choice)(?: is)?\W*([A-D]){_END}", re.IGNORECASE)
_LAST = re.compile(r"(?:^|[^\w'])([A-D])\W*$")


def chosen(question: Question, response: str) -> int | None:
    """Which option a response picks: its very words, a letter at its start, one it names, one at its end, or a mention.

    None: no option, or more than one mentioned. The published script takes a first or last but one character in A to D
    for the letter, also that of a word.
    """
    response = response.strip()
    answer, options = normalise(response), [normalise(choice) for choice in question.choices]
    if options.count(answer) == 1:
        return options.index(answer)
    for letter in (_FIRST.match(response), _NAMED.search(response), _LAST.search(response)):
        if letter and letter[1].upper() in LETTERS[: len(question.choices)]:
            return LETTERS.index(letter[1].upper())
    mentioned = [i for i, option in enumerate(options) if option and f" {option} " in f" {answer} "]
    return mentioned[0] if len(mentioned) == 1 else None


def same_words(question: Question, response: str) -> bool:
    """Whether the response is the right answer, up to case and marks."""
    return normalise(response) == normalise(question.answer_gt)


def among(value_n: np.ndarray, counted_N: np.ndarray) -> bootstrap.Estimate:
    """The mean of values of the answers that are counted."""
    value_N = np.zeros(len(counted_N))
    value_N[counted_N] = value_n
    return metrics.mean(value_N, counted_N)


def measure(answers: Sequence[tuple[Question, str]]) -> Measured:
    """Metrics of one task's answers, resampled over sounds (or their groups).

    ``accuracy`` of questions with options, for which no option counts as wrong, and ``readable``, the share that pick
    one; ``exact_match`` of open questions. Chance is the best that one and the same answer to each wording of a
    question gets, or guessing if that is better.
    """
    drawn = bootstrap.Resamples([question.group or question.path for question, _ in answers])
    several = np.array([bool(question.choices) for question, _ in answers])
    estimates, chance = {}, {}
    if several.any():
        picked = [chosen(question, response) for question, response in _where(answers, several)]
        right = [question.choices.index(question.answer_gt) for question, _ in _where(answers, several)]
        estimates["accuracy"] = [among(np.array(picked, object) == np.array(right, object), several)]
        estimates["readable"] = [among(np.array([option is not None for option in picked]), several)]
        chance["accuracy"] = _chance([question for question, _ in _where(answers, several)])
    if not several.all():
        right_words = [same_words(*answer) for answer in _where(answers, ~several)]
        estimates["exact_match"] = [among(np.array(right_words), ~several)]
        chance["exact_match"] = _chance([question for question, _ in _where(answers, ~several)])
    return from_estimates(estimates, drawn, chance)


def _where(answers: Sequence, counted_N: np.ndarray) -> list:
    return [answers[i] for i in np.flatnonzero(counted_N)]


def _chance(questions: Sequence[Question]) -> float:
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for question in questions:
        counts[normalise(question.question)][normalise(question.answer_gt)] += 1
    constant = sum(max(counter.values()) for counter in counts.values()) / len(questions)
    guessed = np.mean([1 / len(question.choices) if question.choices else 0.0 for question in questions])
    return float(max(constant, guessed)) if _repeats(counts) else float(guessed)


def _repeats(counts: dict[str, collections.Counter]) -> bool:
    """Whether wordings come back often enough for a constant answer to be a baseline and not the key itself."""
    return sum(sum(counter.values()) for counter in counts.values()) >= 5 * len(counts)


def results(answers: Sequence[tuple[Question, str]], origin: dict[str, Any]) -> list[Result]:
    """One result per task, as ``evaluation.suite`` writes them.

    Args:
      origin: what every result says of where the answers are from.
    """
    by_task: dict[str, list[tuple[Question, str]]] = collections.defaultdict(list)
    for question, response in answers:
        by_task[question.task_name].append((question, response))
    return [
        result(task, ANSWERS, measure(of_task), [question for question, _ in of_task], origin)
        for task, of_task in sorted(by_task.items())
    ]


def result(
    task: str, pooling: str, measured: Measured, questions: Sequence[Question], origin: dict[str, Any]
) -> Result:
    """A result with its headline and all of its metrics; there is no floor to compare answers with."""
    facts = {
        "n_test": len(questions),
        "groups_test": len({question.group or question.path for question in questions}),
        "interval_over": measured.resampled,
        "sources": sorted({question.dataset_name for question in questions}),
    }
    return measured.result(f"qa_{task}", pooling, {}, origin | facts)
