"""Questions made from the labels, tags and captions of a data set, to train adapters with and to test them.

There are four kinds of question about a clip: the name of its label, yes or no, a choice of up to four, or a
description. Every label that a yes-or-no question offers is right as often as it is wrong, so its wording says nothing
about the answer. Wordings of the other kinds give away which answers are frequent; the chance of a score allows for it.
"""

import collections
import dataclasses
import random
from collections.abc import Iterator, Sequence

import numpy as np

from alp_jax.config.schema import EvalConfig
from alp_jax.core.clip import SPLITS
from alp_jax.core.errors import UserError
from alp_jax.core.hashing import hash64
from alp_jax.core.names import choose
from alp_jax.data.store.dataset import Dataset
from alp_jax.evaluation.probes.tasks import TAGS, Task, build_tasks
from alp_jax.evaluation.qa.format import LETTERS, Question
from alp_jax.evaluation.table import Table, assert_disjoint, read_table, subset

NAME, YES_NO, CHOICE, DESCRIBE = "name", "yes_no", "choice", "describe"
KINDS = (NAME, YES_NO, CHOICE, DESCRIBE)
_SEED = 11
# task -> (open wording, yes-or-no wording); other tasks use their own name
_WORDS = {
    "instrument": ("Which instrument is playing?", "Is {} playing?"),
    "sound_event": ("Which sound is heard?", "Is the sound of {} heard?"),
    TAGS: ("What is heard?", "Is {} heard?"),
}


def spoken(name: str) -> str:
    """A label or a task as a person would write it."""
    return name.replace("_", " ")


def words(task: str) -> tuple[str, str]:
    """The wordings that ask for a label of ``task``, and that offer one for yes or no."""
    name = spoken(task)
    return _WORDS.get(task, (f"Which {name} is it?", f"Is the {name} {{}}?"))


def template_questions(dataset: Dataset, split: str, kinds: Sequence[str], tasks: Sequence[str] = (), limit: int = 0):
    """Questions about the clips of one split, for every task of the data set with labels or tags.

    Classes are those of ``build_tasks``, and no group is on both sides. Tags are asked about with yes or no only, as a
    clip may have several.

    Args:
      split: ``train`` or ``test``.
      kinds: some of KINDS.
      tasks: names of tasks; empty takes all.
      limit: most clips per task; 0 takes all.

    Raises:
      UserError: a name is unknown, or there is nothing to ask.
      DataError: a group is in both training and test.
    """
    for kind in kinds:
        choose(kind, KINDS, "kind of question")
    choose(split, ("train", "test"), "split")
    table = read_table(dataset)
    whole = dataclasses.replace(EvalConfig(), max_train_clips=0, max_test_clips=0)
    built = build_tasks(table, whole)[0]
    chosen = [choose(name, built, "task") for name in tasks] or sorted(built)
    sources = [dataset.sources[code] for code in dataset.source]
    asked: list[Question] = []
    for name in chosen:
        asked += _about_labels(table, built[name], split, [kind for kind in kinds if kind != DESCRIBE], limit, sources)
    if DESCRIBE in kinds and not tasks:
        asked += _descriptions(table, split, limit, sources)
    if not asked:
        raise UserError(f"nothing to ask about split {split!r}: the data set needs labels, tags or captions there")
    return asked


def _about_labels(table: Table, task: Task, split: str, kinds, limit: int, sources) -> Iterator[Question]:
    rows, targets = (task.train_row, task.train_y) if split == "train" else (task.test_row, task.test_y)
    several = targets.ndim == 2
    right_of = {
        row: {task.classes[i] for i in (np.flatnonzero(target) if several else [target])}
        for row, target in zip(rows.tolist(), targets, strict=True)
    }
    ordered = sorted(subset(table, rows, limit).tolist(), key=lambda row: hash64(_SEED, f"{table.id[row]}/{task.name}"))
    which, offer = words(task.name)
    share_C = np.bincount(task.train_y, minlength=len(task.classes)) if not several else None
    offered = _offers(ordered, right_of, task.classes) if YES_NO in kinds else {}
    for row in sorted(ordered):
        for kind in kinds:
            if kind == YES_NO and row in offered:
                answer_text = "Yes." if offered[row] in right_of[row] else "No."
                asked = offer.format(spoken(offered[row])), answer_text, ()
            elif kind in (NAME, CHOICE) and not several:
                (answer,) = right_of[row]
                chance = random.Random(hash64(_SEED, f"{table.id[row]}/{task.name}/{kind}"))
                options = _options(task.classes, share_C, answer, chance) if kind == CHOICE else ()
                asked = which, spoken(answer), tuple(map(spoken, options))
            else:
                continue
            yield _made(table, row, f"{task.name}_{kind}", sources[row], *asked)


def _offers(ordered: Sequence[int], right_of: dict[int, set[str]], classes: Sequence[str]) -> dict[int, str]:
    """Row -> the label that is offered, each label to as many rows with it as without it.

    Rows are taken in order and used once, the rarest label choosing first. Labels get equal numbers of rows where there
    are enough; rows that would upset a label's balance are left out.
    """
    quota = -(-len(ordered) // (2 * len(classes)))
    count = collections.Counter(label for row in ordered for label in right_of[row])
    offered: dict[int, str] = {}
    for label in sorted(classes, key=lambda name: (count[name], name)):
        free = [row for row in ordered if row not in offered]
        sides = [[row for row in free if (label in right_of[row]) == wanted] for wanted in (True, False)]
        number = min(quota, *map(len, sides))
        offered |= dict.fromkeys([row for side in sides for row in side[:number]], label)
    return offered


def _options(classes, share_C, answer: str, chance: random.Random) -> tuple[str, ...]:
    """The answer and up to three other labels, drawn by their frequency, in random order."""
    left = {name: float(share) for name, share in zip(classes, share_C, strict=True) if name != answer}
    options = [answer]
    while left and len(options) < len(LETTERS):
        options += chance.choices(list(left), list(left.values()))
        del left[options[-1]]
    chance.shuffle(options)
    return tuple(options)


def _descriptions(table: Table, split: str, limit: int, sources) -> Iterator[Question]:
    captioned = np.array([bool(captions) for captions in table.captions], bool)
    sides = {side: rows[captioned[rows]] for side in SPLITS for rows in [table.rows(side)]}
    groups = {side: [table.group[row] for row in rows] for side, rows in sides.items()}
    assert_disjoint(DESCRIBE, groups["train"], groups["test"])
    for row in subset(table, sides[split], limit).tolist():
        yield _made(table, row, DESCRIBE, sources[row], "Describe the sound.", table.captions[row][0], ())


def _made(table: Table, row: int, task_name: str, source: str, question: str, answer: str, choices) -> Question:
    known = [*table.captions[row], *(f"{name}: {label}" for name, label in sorted(table.labels[row].items()))]
    known += [f"tags: {', '.join(table.tags[row])}"] if table.tags[row] else []
    return Question(
        uniq_id=f"{table.id[row]}/{task_name}",
        path=table.id[row],
        question=question,
        answer_gt=answer,
        task_name=task_name,
        dataset_name=source,
        choices=choices,
        meta_info="; ".join(known),
        group=table.group[row],
    )


def count_kinds(questions: Sequence[Question]) -> dict[str, int]:
    """Task -> number of questions, sorted by name."""
    return dict(sorted(collections.Counter(question.task_name for question in questions).items()))
