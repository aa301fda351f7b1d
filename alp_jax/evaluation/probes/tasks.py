"""Probe tasks out of a data set's records: who is trained on, who selects, who is tested, and what is right.

Every label name of the records is a single-label task; ``tags`` is one multi-label task over the most frequent tags. A
published benchmark of several labels per clip is a task of its own, over all of its classes. Splits are the data set's
own and must share no group.
"""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from alp_jax.config.schema import EvalConfig
from alp_jax.core.clip import SPLITS, Event
from alp_jax.core.errors import DataError
from alp_jax.core.hashing import fingerprint, hash64
from alp_jax.data.store.dataset import Dataset

MIN_TRAIN, MIN_TEST = 8, 4  # clips a class needs in each split
MIN_TAG_TRAIN, MIN_TAG_TEST, MAX_TAGS = 20, 10, 32
MIN_VALID = 50  # clips that make the validation split usable for selection
HELD_SHARE, MAX_HELD_SHARE, MIN_FIT = 0.2, 0.4, 3  # of the training clips when groups of them must select instead
SEED = 7
TAGS = "tags"
# sources whose tags are the classes of a published task of that name
MULTI_LABEL = ("fsd50k", "magnatagatune")
# published tasks: every class with a clip on both sides counts, however rare
PUBLISHED = (*MULTI_LABEL, "vggsound", "voxceleb1", "voxceleb2", "crema_d", "nsynth_instrument")


@dataclasses.dataclass(frozen=True)
class Table:
    """What the records say beside the audio; index is the row of the data set."""

    id: list[str]
    source: list[str]
    split: np.ndarray
    group: list[str]
    labels: list[dict[str, str]]
    tags: list[tuple[str, ...]]
    captions: list[tuple[str, ...]]
    events: list[tuple[Event, ...]]

    def rows(self, split: str) -> np.ndarray:
        return np.flatnonzero(self.split == SPLITS.index(split))


@dataclasses.dataclass(frozen=True)
class Task:
    """One probe task.

    Attributes:
      name: of the label, or ``tags``.
      classes: class names.
      train_row, test_row: int64 rows of the data set; training rows include those that select.
      held: bool per training row, True where it selects settings and is not fitted to.
      train_y, test_y: int32[N] classes, or float32[N,C] for several labels per clip.
      selection: what the held rows are: ``validation split``, ``training groups`` or ``training clips``.
      dropped: class -> why it is not in the task.
      train_groups, test_groups: the group of every row.
      split_hash: changes when any clip changes sides.
    """

    name: str
    classes: tuple[str, ...]
    train_row: np.ndarray
    test_row: np.ndarray
    held: np.ndarray
    train_y: np.ndarray
    test_y: np.ndarray
    selection: str
    dropped: dict[str, str]
    train_groups: tuple[str, ...]
    test_groups: tuple[str, ...]
    split_hash: str


@dataclasses.dataclass(frozen=True)
class Shortage:
    """Why there is no task of a name that the records speak of.

    Attributes:
      reason: one line for people.
      have, need: counts of clips in ``train`` and ``test``, and of ``classes`` where the task has some: those that have
        enough clips, for which ``need`` counts the clips of each.
    """

    reason: str
    have: dict[str, int]
    need: dict[str, int]

    def __str__(self) -> str:
        return f"too small: {self.reason}"


def read_table(dataset: Dataset) -> Table:
    """Reads every record once, without decoding audio."""
    records = [dataset.read(row, audio=False) for row in range(dataset.num_clips)]
    return Table(
        id=[record.id for record in records],
        source=[dataset.sources[code] for code in dataset.source.tolist()],
        split=np.array([SPLITS.index(record.split) for record in records], np.int8),
        group=[record.group or record.recording for record in records],
        labels=[dict(record.labels) for record in records],
        tags=[tuple(record.tags) for record in records],
        captions=[tuple(record.captions) for record in records],
        events=[tuple(record.events) for record in records],
    )


def assert_disjoint(name: str, train_groups: Sequence[str], test_groups: Sequence[str]) -> None:
    """Raises DataError naming a group that is on both sides."""
    shared = sorted(set(train_groups) & set(test_groups))
    if shared:
        raise DataError(f"task {name}: group {shared[0]!r} is in training and test ({len(shared)} such groups)")


def shuffled(table: Table, rows: np.ndarray) -> np.ndarray:
    """``rows`` in an order that depends on clip ids alone, so that subsets are nested and shared by tasks."""
    return np.array(sorted(rows.tolist(), key=lambda row: hash64(SEED, table.id[row])), np.int64)


def subset(table: Table, rows: np.ndarray, limit: int, class_of: dict[int, str] | None = None) -> np.ndarray:
    """At most ``limit`` rows (0: all), ascending; with ``class_of`` every class gives as many as it can, in turn."""
    ordered = shuffled(table, rows)
    if limit and len(ordered) > limit:
        if class_of:
            turn = collections.Counter()
            nth = {}
            for row in ordered.tolist():
                nth[row] = turn[class_of[row]]
                turn[class_of[row]] += 1
            ordered = np.array(sorted(ordered.tolist(), key=nth.__getitem__), np.int64)
        ordered = ordered[:limit]
    return np.sort(ordered)


def hold_out(groups: Sequence[str], classes: Sequence[str]) -> tuple[np.ndarray, str]:
    """Which training clips select settings: whole groups, or clips where groups are too few or too large.

    Groups are taken in hashed order until they hold HELD_SHARE of the clips; one that would leave a class with fewer
    than MIN_FIT clips, or hold more than MAX_HELD_SHARE, is passed over.
    """
    members = collections.defaultdict(list)
    for i, group in enumerate(groups):
        members[group].append(i)
    left = collections.Counter(classes)
    held = np.zeros(len(groups), bool)
    for group in sorted(members, key=lambda name: hash64(SEED, name)):
        if held.mean() >= HELD_SHARE:
            break
        taken = collections.Counter(classes[i] for i in members[group])
        fits = held.sum() + len(members[group]) <= MAX_HELD_SHARE * len(groups)
        if fits and all(left[name] - n >= MIN_FIT for name, n in taken.items()):
            held[members[group]] = True
            left -= taken
    if held.mean() >= HELD_SHARE / 2:
        return held, "training groups"
    order = np.argsort([hash64(SEED, f"{group}/{i}") for i, group in enumerate(groups)], kind="stable")
    return np.isin(np.arange(len(groups)), order[: max(1, round(HELD_SHARE * len(groups)))]), "training clips"


def build_tasks(table: Table, config: EvalConfig) -> list[Task]:
    """All tasks that have at least two classes left, by name; see ``tasks_and_shortages``."""
    return tasks_and_shortages(table, config)[0]


def tasks_and_shortages(table: Table, config: EvalConfig) -> tuple[list[Task], dict[str, Shortage]]:
    """All tasks that have at least two classes left, by name, and what is short of the others that records speak of.

    Raises:
      DataError: naming a group that is in training and test of one task.
    """
    names = sorted({name for labels in table.labels for name in labels})
    found = {name: _single(table, name, config) for name in names}
    found |= {name: _multi(table, name, config) for name in (TAGS, *MULTI_LABEL)}
    tasks = [task for task in found.values() if isinstance(task, Task)]
    return tasks, {name: short for name, short in found.items() if isinstance(short, Shortage)}


def _sides(table: Table, inside: np.ndarray) -> dict[str, np.ndarray]:
    return {split: rows[inside[rows]] for split in SPLITS for rows in [table.rows(split)]}


def _too_few(train: collections.Counter, test: collections.Counter, min_train: int, min_test: int) -> dict[str, str]:
    return {
        name: f"{train[name]} training and {test[name]} test clips"
        for name in sorted(train | test)
        if train[name] < min_train or test[name] < min_test
    }


def _shortage(
    classes: Sequence[str], counts: dict[str, collections.Counter], sides: dict, fewest: tuple[int, int], what: str
) -> Shortage:
    """Fewer than two classes are left."""
    every = len(set(counts["train"]) | set(counts["test"]))
    have = {"classes": len(classes), "train": len(sides["train"]), "test": len(sides["test"])}
    reason = (
        f"{have['test']} test and {have['train']} training clips; 2 {what} with at least {fewest[1]} test and "
        f"{fewest[0]} training clips each are needed, and {len(classes)} of {every} have that"
    )
    return Shortage(reason, have, {"classes": 2, "train": fewest[0], "test": fewest[1]})


def _single(table: Table, name: str, config: EvalConfig) -> Task | Shortage:
    label_of = {row: labels[name] for row, labels in enumerate(table.labels) if name in labels}
    sides = _sides(table, np.array([row in label_of for row in range(len(table.id))]))
    counts = {split: collections.Counter(label_of[row] for row in rows.tolist()) for split, rows in sides.items()}
    fewest = (1, 1) if name in PUBLISHED else (MIN_TRAIN, MIN_TEST)
    dropped = _too_few(counts["train"], counts["test"], *fewest)
    classes = tuple(sorted(set(counts["train"]) - set(dropped)))
    if len(classes) < 2:
        return _shortage(classes, counts, sides, fewest, "classes")
    kept = {split: rows[[label_of[row] in classes for row in rows.tolist()]] for split, rows in sides.items()}
    train = subset(table, kept["train"], config.max_train_clips, label_of)
    valid = subset(table, kept["valid"], config.max_train_clips // 4, label_of)
    test = subset(table, kept["test"], config.max_test_clips, label_of)
    if len({label_of[row] for row in valid.tolist()}) * 2 < len(classes):
        valid = valid[:0]  # it knows too few of the classes to select anything
    index = {name: i for i, name in enumerate(classes)}

    def target(rows):
        return np.array([index[label_of[row]] for row in rows.tolist()], np.int32)

    return _task(table, name, classes, train, valid, test, target, dropped)


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

    def target(rows):
        return np.array([[tag in table.tags[row] for tag in classes] for row in rows], np.float32).reshape(
            -1, len(classes)
        )

    rare = {f"{len(dropped)} tags": f"under {fewest[0]} training or {fewest[1]} test clips"} if dropped else {}
    return _task(table, name, classes, sides["train"], sides["valid"], sides["test"], target, rare)


def _task(table, name, classes, train, valid, test, target, dropped) -> Task:
    def groups_of(rows):
        return tuple(table.group[row] for row in rows.tolist())

    assert_disjoint(name, groups_of(np.concatenate([train, valid])), groups_of(test))
    if len(valid) >= MIN_VALID:
        held, selection = np.arange(len(train) + len(valid)) >= len(train), "validation split"
        train = np.concatenate([train, valid])
    else:
        labels = target(train)
        first = [""] * len(train) if labels.ndim == 2 else [str(y) for y in labels]
        held, selection = hold_out(groups_of(train), first)
    sides = {"train": [table.id[row] for row in train], "test": [table.id[row] for row in test]}
    return Task(
        name=name,
        classes=classes,
        train_row=train,
        test_row=test,
        held=held,
        train_y=target(train),
        test_y=target(test),
        selection=selection,
        dropped=dropped,
        train_groups=groups_of(train),
        test_groups=groups_of(test),
        split_hash=fingerprint(sides),
    )
