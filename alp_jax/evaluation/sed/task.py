"""Sound event detection as a task: clips with annotated events if there are enough, else mixtures of clips."""

import collections
import dataclasses

import numpy as np

from alp_jax.config.schema import EvalConfig
from alp_jax.core.clip import SAMPLE_RATE, Event
from alp_jax.core.errors import DataError
from alp_jax.core.hashing import fingerprint
from alp_jax.core.run_files import DETECTION
from alp_jax.data.store.dataset import Dataset
from alp_jax.evaluation.protocol import LONGEST_S
from alp_jax.evaluation.sed.mixtures import SECONDS, Mixtures
from alp_jax.evaluation.sed.psds import stretches
from alp_jax.evaluation.table import Shortage, Split, Table, assert_disjoint, hold_out, subset

LABEL = "sound_event"  # the label of clips that mixtures are made from
MIN_TRAIN, MIN_TEST = 8, 4  # events that a class needs in each split
MIN_CLIPS = 20  # clips with events in each split; with fewer, mixtures are used


@dataclasses.dataclass(frozen=True)
class Side:
    """One split.

    Attributes:
      dataset, rows: where the audio is read.
      clip_rows: the rows of the task's own data set that the audio comes from.
      events: the events of every row; those of one class neither touch nor leave the clip.
      groups: the group of every row; no group is in both splits.
    """

    dataset: Dataset | Mixtures
    rows: np.ndarray
    clip_rows: np.ndarray
    events: tuple[tuple[Event, ...], ...]
    groups: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SedTask(Split):
    """Detection of ``classes``.

    If the audio is mixtures, ``train_row`` and ``test_row`` are the clips that they are made from, while groups and
    ``held`` have an entry per mixture.

    Attributes:
      kind: ``events of the data set`` or ``mixtures``.
      seconds: longer clips are cut to this. It does not depend on the length at which other tasks read clips, because
        an event that is cut away could not be found.
    """

    train: Side
    test: Side
    kind: str
    seconds: float


def sed_task(dataset: Dataset, table: Table, config: EvalConfig) -> SedTask | Shortage | None:
    """The task that a data set allows; a shortage if it has too few events, None if it has none at all.

    Raises:
      DataError: a group is on both sides, or an event ends before it begins.
    """
    kind, (train, test) = "events of the data set", (_real(dataset, table, config, s) for s in ("train", "test"))
    if min(len(train.rows), len(test.rows)) < MIN_CLIPS:
        have = {"train": len(train.rows), "test": len(test.rows)}
        kind, (train, test) = "mixtures", (_mixed(dataset, table, config, s) for s in ("train", "test"))
        if train is None or test is None:
            if not any(have.values()):
                return None
            clips = (
                f"{have['train']} training and {have['test']} test clips with events, {MIN_CLIPS} of each are needed"
            )
            return Shortage(clips, have, dict.fromkeys(have, MIN_CLIPS))
    assert_disjoint(DETECTION, train.groups, test.groups)
    counted = [collections.Counter(e.label for events in side.events for e in events) for side in (train, test)]
    counts = {name: [count[name] for count in counted] for name in sorted(counted[0] | counted[1])}
    dropped = {
        name: f"{n} training and {m} test events" for name, (n, m) in counts.items() if n < MIN_TRAIN or m < MIN_TEST
    }
    classes = tuple(sorted(set(counts) - set(dropped)))
    if len(classes) < 2:
        have = {"classes": len(classes)} | {"train": len(train.rows), "test": len(test.rows)}
        reason = (
            f"2 classes with at least {MIN_TEST} test and {MIN_TRAIN} training events each are needed, and "
            f"{len(classes)} of {len(counts)} have enough"
        )
        return Shortage(reason, have, {"classes": 2, "train": MIN_TRAIN, "test": MIN_TEST})
    held, selection = hold_out(train.groups)
    sides = {"train": train, "test": test}
    return SedTask(
        train_row=train.clip_rows,
        test_row=test.clip_rows,
        held=held,
        train_groups=train.groups,
        test_groups=test.groups,
        selection=selection,
        split_hash=fingerprint({k: [side.dataset.fingerprint, side.rows.tolist()] for k, side in sides.items()}),
        classes=classes,
        train=train,
        test=test,
        kind=kind,
        seconds=min(LONGEST_S, max(_longest_s(train), _longest_s(test))),
        dropped=dropped,
    )


def _longest_s(side: Side) -> float:
    return float(side.dataset.num_samples[side.rows].max()) / SAMPLE_RATE


def _real(dataset: Dataset, table: Table, config: EvalConfig, split: str) -> Side:
    rows = table.rows(split)
    rows = rows[[bool(table.events[row]) for row in rows.tolist()]] if len(rows) else rows
    rows = subset(table, rows, config.max_train_clips if split == "train" else config.max_test_clips)
    events = tuple(_apart(table, row, float(dataset.num_samples[row]) / SAMPLE_RATE) for row in rows.tolist())
    return Side(dataset, rows, rows, events, table.groups(rows))


def _apart(table: Table, row: int, seconds: float) -> tuple[Event, ...]:
    """The events of a clip of ``seconds``, those of each class joined by ``stretches``, in order of onset."""
    times: dict[str, list[tuple[float, float]]] = {}
    for event in table.events[row]:
        times.setdefault(event.label, []).append((event.onset_s, event.offset_s))
    events = []
    for label, of_class in sorted(times.items()):
        try:
            events += [Event(*pair, label) for pair in stretches(np.array(of_class), seconds).tolist()]
        except ValueError as error:
            raise DataError(f"clip {table.id[row]}: class {label}: {error}") from None
    return tuple(sorted(events, key=lambda event: (event.onset_s, event.offset_s)))


def _mixed(dataset: Dataset, table: Table, config: EvalConfig, split: str) -> Side | None:
    rows = table.rows(split).tolist()
    label_of = {row: table.labels[row][LABEL] for row in rows if LABEL in table.labels[row]}
    long_enough = dataset.num_samples >= round(SECONDS * SAMPLE_RATE)
    backgrounds = [row for row in rows if row not in label_of and long_enough[row]]
    count = config.max_train_clips if split == "train" else config.max_test_clips
    if not label_of or not backgrounds or not count:
        return None
    mixtures = Mixtures(dataset, label_of, backgrounds, split, count, seed=0)
    events = tuple(plan.events for plan in mixtures.plans)
    used = np.unique([row for plan in mixtures.plans for row in (plan.background, *(e.row for e in plan.events))])
    return Side(mixtures, np.arange(count), used, events, tuple(f"{split} mixture {k}" for k in range(count)))
