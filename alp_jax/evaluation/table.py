"""What the records of a data set hold besides audio, and how clips are chosen: subsets, held-out clips, no leaks."""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from alp_jax.core.clip import SPLITS, Event
from alp_jax.core.errors import DataError
from alp_jax.core.hashing import fingerprint, hash64
from alp_jax.data.store.dataset import Dataset

# of the training clips, the share to hold out and the largest allowed; clips of a class that must remain for fitting
HELD_SHARE, MAX_HELD_SHARE, MIN_FIT = 0.2, 0.4, 3
SEED = 7


@dataclasses.dataclass(frozen=True)
class Table:
    """What the records hold besides audio; every field is indexed by the row of the data set.

    Attributes:
      used: bool, False for clips that an audit or a user has excluded.
    """

    id: list[str]
    source: list[str]
    split: np.ndarray
    group: list[str]
    labels: list[dict[str, str]]
    tags: list[tuple[str, ...]]
    captions: list[tuple[str, ...]]
    events: list[tuple[Event, ...]]
    used: np.ndarray

    def rows(self, split: str) -> np.ndarray:
        """int64 rows of the clips in ``split`` that are in use, ascending."""
        return np.flatnonzero((self.split == SPLITS.index(split)) & self.used)

    def groups(self, rows: np.ndarray) -> tuple[str, ...]:
        """The group of every one of ``rows``."""
        return tuple(self.group[row] for row in rows.tolist())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """The training and test clips of a task; no group is on both sides.

    Attributes:
      train_row, test_row: int64 rows of the data set; training rows include those that select settings.
      held: bool per training clip, True where it selects settings and is kept out of the fit.
      train_groups, test_groups: the group of every training and test clip.
      selection: what the held clips are: ``validation split``, ``training groups`` or ``training clips``.
      split_hash: changes when any clip changes sides.
      classes: their names, empty for a task without classes. dropped: class -> why it was left out.
    """

    train_row: np.ndarray
    test_row: np.ndarray
    held: np.ndarray
    train_groups: tuple[str, ...]
    test_groups: tuple[str, ...]
    selection: str
    split_hash: str
    classes: tuple[str, ...] = ()
    dropped: dict[str, str] = dataclasses.field(default_factory=dict)

    def facts(self) -> dict:
        """What a result says about its clips."""
        return {
            "n_train": len(self.train_row),
            "n_test": len(self.test_row),
            "groups_train": len(set(self.train_groups)),
            "groups_test": len(set(self.test_groups)),
            "selection": self.selection,
            "split_hash": self.split_hash,
            "classes": len(self.classes),
            "class_names": list(self.classes),
            "dropped": self.dropped,
        }


@dataclasses.dataclass(frozen=True)
class Shortage:
    """Why the data set is too small for a task that its records mention.

    Attributes:
      reason: one line for people.
      have, need: clips in ``train`` and ``test``; for a task with classes also ``classes``, the number that have enough
        clips, and then ``need`` gives ``train`` and ``test`` per class.
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
        used=np.array([not reason for reason in dataset.exclusions], bool)[dataset.excluded],
    )


def assert_disjoint(name: str, train_groups: Sequence[str], test_groups: Sequence[str]) -> None:
    """Raises DataError naming a group that is on both sides."""
    shared = sorted(set(train_groups) & set(test_groups))
    if shared:
        raise DataError(f"task {name}: group {shared[0]!r} is in both training and test ({len(shared)} such groups)")


def shuffled(table: Table, rows: np.ndarray) -> np.ndarray:
    """``rows`` in an order that depends on clip ids alone, so that subsets are nested and tasks share them."""
    return np.array(sorted(rows.tolist(), key=lambda row: hash64(SEED, table.id[row])), np.int64)


def subset(table: Table, rows: np.ndarray, limit: int, class_of: dict[int, str] | None = None) -> np.ndarray:
    """At most ``limit`` rows (0: all), ascending; with ``class_of`` the classes take turns."""
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


def split_fields(table: Table, train: np.ndarray, test: np.ndarray, held: np.ndarray, selection: str) -> dict:
    """The fields of a ``Split``, but for its classes."""
    return {
        "train_row": train,
        "test_row": test,
        "held": held,
        "train_groups": table.groups(train),
        "test_groups": table.groups(test),
        "selection": selection,
        "split_hash": fingerprint({"train": [table.id[row] for row in train], "test": [table.id[row] for row in test]}),
    }


def hold_out(groups: Sequence[str], classes: Sequence | None = None) -> tuple[np.ndarray, str]:
    """Which training clips select settings: whole groups, or single clips if groups are too few or too large.

    Groups are taken in hashed order until they hold HELD_SHARE of the clips. A group is passed over if it would leave a
    class with fewer than MIN_FIT clips or bring the held clips above MAX_HELD_SHARE.

    Returns:
      bool per clip, and ``training groups`` or ``training clips``.
    """
    classes = [None] * len(groups) if classes is None else classes
    members = collections.defaultdict(list)
    for i, group in enumerate(groups):
        members[group].append(i)
    left = collections.Counter(classes)
    held, count = np.zeros(len(groups), bool), 0
    for group in sorted(members, key=lambda name: hash64(SEED, name)):
        if count / len(groups) >= HELD_SHARE:
            break
        taken = collections.Counter(classes[i] for i in members[group])
        fits = count + len(members[group]) <= MAX_HELD_SHARE * len(groups)
        if fits and all(left[name] - n >= MIN_FIT for name, n in taken.items()):
            held[members[group]] = True
            count += len(members[group])
            left.subtract(taken)
    if held.mean() >= HELD_SHARE / 2:
        return held, "training groups"
    order = np.argsort([hash64(SEED, f"{group}/{i}") for i, group in enumerate(groups)], kind="stable")
    return np.isin(np.arange(len(groups)), order[: max(1, round(HELD_SHARE * len(groups)))]), "training clips"
