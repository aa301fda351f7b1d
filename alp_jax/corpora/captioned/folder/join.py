"""Joins rows into clips: a table with one row per caption names a file as often as it has captions."""

import array
import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from alp_jax.core.clip import Clip, Rejected
from alp_jax.corpora.audio_files import composed
from alp_jax.corpora.captioned.folder.tables import Row
from alp_jax.corpora.rows import BadRow

Place = tuple[str, float, float | None]  # what a row names: a file and a stretch of it


def joined(
    counted: Iterable[Row | Rejected],
    rows: Iterable[Row | Rejected],
    place_of: Callable[[Row], Place],
    make: Callable[[Row], Clip],
) -> Iterator[Clip | Rejected]:
    """The clips of all rows; rows of the same stretch of the same file are one clip with the captions of all of them.

    The rows are read twice. The first pass counts the rows of every place, in 8 bytes a row, so that a clip waits in
    memory only until its last row. Every row of a container is a clip of its own.

    Args:
      counted: the same as ``rows``, except that rows of containers may be missing.
      place_of, make: give the place, and the clip, of a row; they raise BadRow.
    """
    waiting = _repeated(counted, place_of)
    held: dict[int, tuple[str, Clip]] = {}
    for row in rows:
        if isinstance(row, Rejected):
            yield row
            continue
        try:
            key = 0 if row.container else _hash(place_of(row))
        except BadRow as error:
            yield Rejected(row.where, error.reason, error.detail)
            continue
        try:
            clip = make(row)
            if key in waiting:
                where, first = held.get(key, (row.where, clip))
                held[key] = (where, first if first is clip else _join(first, clip, where))
            else:
                yield clip
        except BadRow as error:
            yield Rejected(row.where, error.reason, error.detail)
        if key in waiting:
            waiting[key] -= 1
            if not waiting[key]:
                del waiting[key]
                if key in held:
                    yield held.pop(key)[1]


def _repeated(rows: Iterable[Row | Rejected], place_of: Callable[[Row], Place]) -> dict[int, int]:
    """Hash of a place -> number of rows, for places that several rows have."""
    keys = array.array("Q")
    for row in rows:
        if isinstance(row, Row) and not row.container:
            try:
                keys.append(_hash(place_of(row)))
            except BadRow:
                continue
    hashes, counts = np.unique(np.frombuffer(keys, np.uint64), return_counts=True)
    return dict(zip(hashes[counts > 1].tolist(), counts[counts > 1].tolist(), strict=True))


def _hash(audio_place: Place) -> int:
    text = repr(audio_place).encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _join(first: Clip, second: Clip, where: str) -> Clip:
    """``first`` plus what ``second``, of a later row, adds; BadRow if they contradict each other."""
    labels = dict(first.labels)
    for task, label in second.labels.items():
        if labels.setdefault(task, label) != label:
            raise BadRow("contradiction", f"label_{task} is {label!r} here and {labels[task]!r} in {where}")
    for name in ("recording", "group", "split", "license"):
        ours, theirs = getattr(first, name), getattr(second, name)
        if ours and theirs and composed(ours) != composed(theirs):
            raise BadRow("contradiction", f"{name} is {theirs!r} here and {ours!r} in {where}")
    return dataclasses.replace(
        first,
        captions=tuple(dict.fromkeys(first.captions + second.captions)),
        tags=tuple(dict.fromkeys(first.tags + second.tags)),
        labels=labels,
        license=first.license or second.license,
    )
