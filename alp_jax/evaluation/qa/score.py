"""Answers scored without a judge: by the option that they choose, or by exact match with the right answer."""

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
from alp_jax.evaluation.stats.published import published_facts

_END = r"(?=\W*$|[.):,*\n])"  # what may follow a letter that stands for an option: "A drum" begins with an article
_FIRST = re.compile(rf"\W*([A-D]){_END}")
_NAMED = re.compile(rf"\b(?:answer|option|choice)(?: is)?\W*([A-D]){_END}", re.IGNORECASE)
_LAST = re.compile(r"(?:^|[^\w'])([A-D])\W*$")


def chosen(question: Question, response: str) -> int | None:
    """Index of the option that a response picks, or None if it picks none or mentions several.

    Tried in this order: the response is the option, starts with a letter, names one ("the answer is B"), ends with one,
    or mentions a single option. The published script takes any first or last but one character from A to D for the
    letter, even within a word.
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
    """Whether the response is the right answer after normalisation (case, punctuation)."""
    return normalise(response) == normalise(question.answer_gt)


def mean_of_counted(value_n: np.ndarray, counted_N: np.ndarray) -> bootstrap.Estimate:
    """The mean over the counted answers; ``value_n`` holds a value for each of those only."""
    value_N = np.zeros(len(counted_N))
    value_N[counted_N] = value_n
    return metrics.mean(value_N, counted_N)


def measure(answers: Sequence[tuple[Question, str]]) -> Measured:
    """Metrics of one task's answers, resampled over groups of sounds (or sounds without a group).

    Questions with options get ``accuracy``, where picking no option is wrong, and ``readable``, the share of answers
    that pick one; open questions get ``exact_match``. Chance is guessing, or if that is better, always giving the most
    frequent answer to each wording of a question.
    """
    drawn = bootstrap.Resamples([question.group or question.path for question, _ in answers])
    several = np.array([bool(question.choices) for question, _ in answers])
    estimates, chance = {}, {}
    if several.any():
        picked = [chosen(question, response) for question, response in _where(answers, several)]
        right = [question.choices.index(question.answer_gt) for question, _ in _where(answers, several)]
        estimates["accuracy"] = [mean_of_counted(np.array(picked, object) == np.array(right, object), several)]
        estimates["readable"] = [mean_of_counted(np.array([option is not None for option in picked]), several)]
        chance["accuracy"] = _chance([question for question, _ in _where(answers, several)])
    if not several.all():
        right_words = [same_words(*answer) for answer in _where(answers, ~several)]
        estimates["exact_match"] = [mean_of_counted(np.array(right_words), ~several)]
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
    """Whether wordings recur so often that a constant answer to each is a baseline rather than the key itself."""
    return sum(sum(counter.values()) for counter in counts.values()) >= 5 * len(counts)


def results(answers: Sequence[tuple[Question, str]], origin: dict[str, Any]) -> list[Result]:
    """One result per task, as ``evaluation.suite`` writes them.

    Args:
      origin: facts for every result about where the answers come from.
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
    """The result of one task, with all of its metrics; answers have no floor."""
    facts = {
        "n_test": len(questions),
        "groups_test": len({question.group or question.path for question in questions}),
        "interval_over": measured.resampled,
        "sources": sorted({question.dataset_name for question in questions}),
    }
    published = published_facts(f"qa_{task}", pooling, facts["sources"])
    return measured.result(f"qa_{task}", pooling, {}, origin | facts | published)
