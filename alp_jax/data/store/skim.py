"""What the shards of a local data set hold beside the sounds, which are most of them."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_generated_pb2

from alp_jax.core.errors import DataError
from alp_jax.data.store import records
from alp_jax.data.store.records import Frame

_T = TypeVar("_T")


def skim(frames: Iterable[Frame], take: Callable[[Any], _T]) -> Iterator[tuple[Frame, tuple[str, _T] | None]]:
    """Every frame with its record's id and ``take(features)``, without reading the audio, and so without its checksum.

    None instead of them where the audio is not the first feature; it is in everything that ``writing.encode`` made.

    Raises:
      DataError: once a record is reached that cannot be read, or is none.
    """
    descriptor, path = -1, None
    try:
        for frame in frames:
            if frame.path != path:
                if path is not None:
                    os.close(descriptor)
                    path = None
                descriptor, path = _open(frame), frame.path
            yield frame, _taken(descriptor, frame, take)
    finally:
        if path is not None:
            os.close(descriptor)


def _open(frame: Frame) -> int:
    try:
        return os.open(frame.path, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"{frame} cannot be read: {error.strerror or error}") from None


def _taken(descriptor: int, frame: Frame, take: Callable[[Any], _T]) -> tuple[str, _T] | None:
    start = frame.offset + records.HEADER
    try:
        head = os.pread(descriptor, min(records.HEAD, frame.length), start)
        entry = records.audio_entry(head, frame.length)
        if not entry:
            return None
        rest = os.pread(descriptor, frame.length - entry[1], start + entry[1])
        features = tf_example_generated_pb2.Example().features
        features.MergeFromString(rest)
        (name,) = records.texts_of(features.feature, "id")
        return name, take(features.feature)
    except (DecodeError, ValueError, IndexError, OSError) as error:
        raise DataError(f"{frame}: not a record of this project: {error}") from None


def captions_of(feature: Any) -> tuple[str, ...]:
    """The captions in the features of a record."""
    return records.texts_of(feature, "captions")
