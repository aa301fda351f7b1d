"""Probe tasks from a data set's records: which clips train, select and test, and their right answers.

Every label name in the records is a single-label task; ``tags`` is one multi-label task over the most frequent tags. A
published multi-label benchmark is a task of its own, over all of its classes. Splits are the data set's own and must
not share a group.
"""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from alp_jax.config.schema import EvalConfig
from alp_jax.core.clip import SPLITS
from alp_jax.evaluation.table import Shortage, Split, Table, assert_disjoint, hold_out, split_fields, subset

MIN_TRAIN, MIN_TEST = 8, 4  # clips that a class needs on each side
MIN_TAG_TRAIN, MIN_TAG_TEST, MAX_TAGS = 20, 10, 32
MIN_VALID = 50  # clips that the validation split needs to select settings
TAGS = "tags"
# sources whose tags are the classes of a published task with the name of the source
MULTI_LABEL = ("fsd50k", "magnatagatune")
# published tasks: every class with a clip on both sides counts, however rare
PUBLISHED = (*MULTI_LABEL, "vggsound", "voxceleb1", "voxceleb2", "crema_d", "nsynth_instrument")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(Split):
    """One probe task.

    Attributes:
      name: the name of the label, ``tags``, or one of MULTI_LABEL.
      train_y, test_y: int32[N] classes, or float32[N,C] for several labels per clip.
    """

    name: str
    train_y: np.ndarray
    test_y: np.ndarray


def build_tasks(table: Table, config: EvalConfig) -> tuple[dict[str, Task], dict[str, Shortage]]:
    """The tasks that have at least two classes left, by name, and why the others do not.

    Raises:
      DataError: a group is in both training and test of one task.
    """
    built = {name: _single(table, name, config) for name in table.label_names}
    built |= {name: _multi(table, name, config) for name in (TAGS, *MULTI_LABEL)}
    tasks = {name: task for name, task in built.items() if isinstance(task, Task)}
    return tasks, {name: shortage for name, shortage in built.items() if isinstance(shortage, Shortage)}


def _sides(table: Table, inside: np.ndarray) -> dict[str, np.ndarray]:
    return {split: rows[inside[rows]] for split in SPLITS for rows in [table.rows(split)]}


def _too_few(train: collections.Counter, test: collections.Counter, min_train: int, min_test: int) -> dict[str, str]:
    return {
        name: f"{train[name]} training and {test[name]} test clips"
        for name in sorted(train | test)
        if train[name] < min_train or test[name] < min_test
    }


def _shortage(
    classes: Sequence[str], counts: dict[str, collections.Counter], sides: dict, fewest: tuple[int, int], units: str
) -> Shortage:
    """The shortage of a task with fewer than two classes left."""
    every = len(set(counts["train"]) | set(counts["test"]))
    have = {"classes": len(classes), "train": len(sides["train"]), "test": len(sides["test"])}
    reason = (
        f"{have['test']} test and {have['train']} training clips; 2 {units} with at least {fewest[1]} test and "
        f"{fewest[0]} training clips each are needed, and {len(classes)} of {every} have enough"
    )
    return Shortage(reason, have, {"classes": 2, "train": fewest[0], "test": fewest[1]})


def _single(table: Table, name: str, config: EvalConfig) -> Task | Shortage:
    code_N, labels = table.label_codes(name)
    sides = _sides(table, code_N >= 0)
    counts = {
        split: collections.Counter(
            {labels[code]: int(n) for code, n in enumerate(np.bincount(code_N[rows], minlength=len(labels))) if n}
        )
        for split, rows in sides.items()
    }
    fewest = (1, 1) if name in PUBLISHED else (MIN_TRAIN, MIN_TEST)
    dropped = _too_few(counts["train"], counts["test"], *fewest)
    classes = tuple(sorted(set(counts["train"]) - set(dropped)))
    if len(classes) < 2:
        return _shortage(classes, counts, sides, fewest, "classes")
    index = {label: i for i, label in enumerate(classes)}
    class_N = np.array([*(index.get(label, -1) for label in labels), -1], np.int32)[code_N]
    kept = {split: rows[class_N[rows] >= 0] for split, rows in sides.items()}
    train = subset(table, kept["train"], config.max_train_clips, class_N)
    valid = subset(table, kept["valid"], config.max_train_clips // 4, class_N)
    test = subset(table, kept["test"], config.max_test_clips, class_N)
    if len(np.unique(class_N[valid])) * 2 < len(classes):
        valid = valid[:0]  # under half of the classes occur in it: too few to select by
    return _task(table, name, classes, train, valid, test, class_N.__getitem__, dropped)


def _multi(table: Table, name: str, config: EvalConfig) -> Task | Shortage | None:
    own = [source if source in MULTI_LABEL else TAGS for source in table.source]
    inside = [bool(tags) and task == name for tags, task in zip(table.tags, own, strict=True)]
    if not any(inside):
        return None
    sides = _sides(table, np.array(inside, bool))
    sides["train"] = subset(table, sides["train"], config.max_train_clips)
    sides["valid"] = subset(table, sides["valid"], config.max_train_clips // 4)
    sides["test"] = subset(table, sides["test"], config.max_test_clips)
    counts = {s: collections.Counter(tag for row in rows for tag in set(table.tags[row])) for s, rows in sides.items()}
    fewest = (1, 1) if name in PUBLISHED else (MIN_TAG_TRAIN, MIN_TAG_TEST)
    dropped = _too_few(counts["train"], counts["test"], *fewest)
    frequent = sorted(set(counts["train"]) - set(dropped), key=lambda tag: (-counts["train"][tag], tag))
    classes = tuple(sorted(frequent if name in PUBLISHED else frequent[:MAX_TAGS]))
    if len(classes) < 2:
        return _shortage(classes, counts, sides, fewest, "tags")

    index = {tag: c for c, tag in enumerate(classes)}

    def target(rows):
        target_NC = np.zeros((len(rows), len(classes)), np.float32)
        for n, row in enumerate(rows.tolist()):
            target_NC[n, [index[tag] for tag in table.tags[row] if tag in index]] = 1
        return target_NC

    rare = {f"{len(dropped)} tags": f"under {fewest[0]} training or {fewest[1]} test clips"} if dropped else {}
    return _task(table, name, classes, sides["train"], sides["valid"], sides["test"], target, rare)


def _task(table: Table, name: str, classes, train, valid, test, target, dropped) -> Task:
    assert_disjoint(name, table.groups(np.concatenate([train, valid])), table.groups(test))
    if len(valid) >= MIN_VALID:
        held, selection = np.arange(len(train) + len(valid)) >= len(train), "validation split"
        train = np.concatenate([train, valid])
    else:
        labels = target(train)
        held, selection = hold_out(table.groups(train), labels.tolist() if labels.ndim == 1 else None)
    return Task(
        **split_fields(table, train, test, held, selection),
        name=name,
        classes=classes,
        train_y=target(train),
        test_y=target(test),
        dropped=dropped,
    )
