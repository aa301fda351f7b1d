"""Clips as rows of Arrow tables: what a plan file holds, and how clips come out of it again."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from alp_jax.core.clip import Clip, Event

_TEXTS = pa.list_(pa.string())
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "source", "recording", "audio_path", "member")),
        *((name, pa.float64()) for name in ("start_s", "duration_s", "recording_start_s")),
        ("captions", _TEXTS),
        ("tags", _TEXTS),
        ("tasks", _TEXTS),  # names of labels
        ("labels", _TEXTS),
        ("onset_s", pa.list_(pa.float64())),  # of events
        ("offset_s", pa.list_(pa.float64())),
        ("events", _TEXTS),
        *((name, pa.string()) for name in ("split", "group", "license")),
        ("channel", pa.int32()),
        ("stated_s", pa.float64()),
    ]
)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_CHANNEL = SCHEMA.get_field_index("channel")
_AUDIO_PATH = SCHEMA.get_field_index("audio_path")


def row(clip: Clip) -> tuple:
    """The values of ``SCHEMA`` for one clip."""
    tasks = sorted(clip.labels)  # equal clips have equal digests, in whatever order their labels came
    unfolded = {
        "tasks": tasks,
        "labels": [clip.labels[task] for task in tasks],
        "onset_s": [event.onset_s for event in clip.events],
        "offset_s": [event.offset_s for event in clip.events],
        "events": [event.label for event in clip.events],
    }
    return tuple(unfolded[name] if name in unfolded else getattr(clip, name) for name in SCHEMA.names)


def digest(values: tuple) -> bytes:
    """16 bytes that identify what is stored of a row, whatever folder holds its audio.

    Raises:
      UnicodeEncodeError: a text that is not valid Unicode (half of a surrogate pair).
      ValueError: a number that is not finite.
    """
    name = values[_AUDIO_PATH].rpartition("/")[2]
    channel = values[_CHANNEL : _CHANNEL + 1] if values[_CHANNEL] is not None else ()
    known = (*values[:_AUDIO_PATH], name, *values[_AUDIO_PATH + 1 : _CHANNEL], *channel)
    return hashlib.blake2b(_ENCODER.encode(known).encode(), digest_size=16).digest()


def batch(rows: Sequence[tuple]) -> pa.RecordBatch:
    """Rows as one record batch of ``SCHEMA``."""
    columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True))
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.record_batch(arrays, schema=SCHEMA)


def clips(table: pa.RecordBatch) -> Iterator[Clip]:
    """The clips of a record batch, in order."""
    columns = {name: table.column(name).to_pylist() for name in SCHEMA.names}
    for number in range(table.num_rows):
        value = {name: column[number] for name, column in columns.items()}
        labels = dict(zip(value.pop("tasks"), value.pop("labels"), strict=True))
        events = zip(value.pop("onset_s"), value.pop("offset_s"), value.pop("events"), strict=True)
        captions, tags = tuple(value.pop("captions")), tuple(value.pop("tags"))
        yield Clip(
            **value, captions=captions, tags=tags, labels=labels, events=tuple(Event(*event) for event in events)
        )
