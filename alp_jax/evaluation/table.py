"""What the records of a data set hold besides audio, and how clips are chosen: subsets, held-out clips, no leaks."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from alp_jax.core.clip import SPLITS, Event
from alp_jax.core.errors import DataError
from alp_jax.core.hashing import fingerprint, hash64
from alp_jax.data.store.dataset import Dataset
from alp_jax.data.store.records import Record
from alp_jax.evaluation.column import PIECE_ROWS, RecordColumn

# of the training clips, the share to hold out and the largest allowed; clips of a class that must remain for fitting
HELD_SHARE, MAX_HELD_SHARE, MIN_FIT = 0.2, 0.4, 3
SEED = 7


@dataclasses.dataclass(frozen=True)
class Table:
    """What the records hold besides audio; every field is indexed by the row of the data set.

    Attributes:
      used: bool, False for clips that an audit or a user has excluded.
    """

    id: Sequence[str]
    source: Sequence[str]
    split: np.ndarray
    group: Sequence[str]
    labels: Sequence[dict[str, str]]
    tags: Sequence[tuple[str, ...]]
    captions: Sequence[tuple[str, ...]]
    events: Sequence[tuple[Event, ...]]
    used: np.ndarray

    @functools.cached_property
    def label_names(self) -> tuple[str, ...]:
        """The names of all labels, sorted."""
        return tuple(sorted({name for labels in self.labels for name in labels}))

    def label_codes(self, name: str) -> tuple[np.ndarray, list[str]]:
        """int32[N], the index of every row's label ``name`` in the list beside it; -1 for a row without one."""
        found: dict[str, int] = {}
        code_N = np.full(len(self.split), -1, np.int32)
        for row, labels in enumerate(self.labels):
            if name in labels:
                code_N[row] = found.setdefault(labels[name], len(found))
        return code_N, list(found)

    def rows(self, split: str) -> np.ndarray:
        """int64 rows of the clips in ``split`` that are in use, ascending."""
        return np.flatnonzero((self.split == SPLITS.index(split)) & self.used)

    def groups(self, rows: np.ndarray) -> tuple[str, ...]:
        """The group of every one of ``rows``; equal ones are one string."""
        known: dict[str, str] = {}
        return tuple(known.setdefault(group, group) for group in map(self.group.__getitem__, rows.tolist()))


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


_TEXTS = pa.list_(pa.string())
_EVENTS = pa.list_(pa.struct({"onset_s": pa.float64(), "offset_s": pa.float64(), "label": pa.string()}))
# field of a Table -> (Arrow type, what it holds of a record, how that is read again)
_COLUMNS: dict[str, tuple[pa.DataType, Callable[[Record], Any], Callable[[Any], Any]]] = {
    "id": (pa.string(), lambda record: record.id, str),
    "group": (pa.string(), lambda record: record.group or record.recording, str),
    "labels": (pa.map_(pa.string(), pa.string()), lambda record: list(record.labels.items()), dict),
    "tags": (_TEXTS, lambda record: record.tags, tuple),
    "captions": (_TEXTS, lambda record: record.captions, tuple),
    "events": (
        _EVENTS,
        lambda record: [dataclasses.asdict(event) for event in record.events],
        lambda events: tuple(Event(**event) for event in events),
    ),
}


def read_table(dataset: Dataset) -> Table:
    """Reads every record once, without its audio; a million clips take about 250 MB."""
    pieces: dict[str, list[pa.Array]] = {name: [] for name in _COLUMNS}
    splits: list[int] = []
    for first in range(0, dataset.num_clips, PIECE_ROWS):
        records = list(dataset.described(range(first, min(first + PIECE_ROWS, dataset.num_clips))))
        splits += [SPLITS.index(record.split) for record in records]
        for name, (kind, held, _) in _COLUMNS.items():
            pieces[name].append(pa.array(map(held, records), kind))
    return Table(
        source=[dataset.sources[code] for code in dataset.source.tolist()],
        split=np.array(splits, np.int8),
        used=np.array([not reason for reason in dataset.exclusions], bool)[dataset.excluded],
        **{name: RecordColumn(pieces[name], read) for name, (_, _, read) in _COLUMNS.items()},
    )


def assert_disjoint(name: str, train_groups: Sequence[str], test_groups: Sequence[str]) -> None:
    """Raises DataError naming a group that is on both sides."""
    shared = sorted(set(train_groups) & set(test_groups))
    if shared:
        raise DataError(f"task {name}: group {shared[0]!r} is in both training and test ({len(shared)} such groups)")


def shuffled(table: Table, rows: np.ndarray) -> np.ndarray:
    """``rows`` in an order that depends on clip ids alone, so that subsets are nested and tasks share them."""
    return np.array(sorted(rows.tolist(), key=lambda row: hash64(SEED, table.id[row])), np.int64)


def subset(table: Table, rows: np.ndarray, limit: int, class_N: np.ndarray | None = None) -> np.ndarray:
    """At most ``limit`` rows (0: all), ascending; with ``class_N``, a class per row of the table, they take turns."""
    if not limit or len(rows) <= limit:
        return np.sort(rows)
    ordered = shuffled(table, rows)
    if class_N is not None:
        turn: collections.Counter = collections.Counter()
        nth = {}
        for row, own in zip(ordered.tolist(), class_N[ordered].tolist(), strict=True):
            nth[row] = turn[own]
            turn[own] += 1
        ordered = np.array(sorted(ordered.tolist(), key=nth.__getitem__), np.int64)
    return np.sort(ordered[:limit])


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
