"""Clips as records of a shard: standard ``tf.train.Example`` in standard TFRecord framing, without TensorFlow.

A frame is ``length u64 | masked crc32c(length) u32 | data | masked crc32c(data) u32``, little endian, byte-identical to
what TensorFlow writes. Both checksums are verified on every read, which many readers skip. Damage raises a DataError
that names the shard and the record.
"""

import dataclasses
import os
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import google_crc32c
import numpy as np
from google.protobuf.message import DecodeError
from miniaudio import ffi, lib
from tensorflow_datasets.proto import tf_example_generated_pb2

from alp_jax.core import storage
from alp_jax.core.clip import Event
from alp_jax.core.errors import DataError

CODECS = ("flac", "pcm")
LABEL = "labels/"  # and a task, the name of a feature
HEADER = 12  # bytes before the data
FOOTER = 4  # bytes after it
_MASK_DELTA = 0xA282EAD8
HEAD = 64  # bytes of the data in which the name of the first feature lies
_AUDIO_KEY = b"\n\x05audio"
_AUDIO_VALUE = (b"\x12", b"\n", b"\n")  # what nests after it: the feature, its list of bytes, and the only one


@dataclasses.dataclass(frozen=True)
class Record:
    """One stored clip. ``audio`` is int16, 16 kHz mono: all ``num_samples``, a stretch, or None, as requested."""

    id: str
    source: str
    recording: str
    audio: np.ndarray | None
    num_samples: int
    captions: tuple[str, ...]
    tags: tuple[str, ...]
    labels: dict[str, str]
    events: tuple[Event, ...]
    split: str
    group: str
    license: str


@dataclasses.dataclass(frozen=True)
class Crop:
    """A stretch of up to ``width`` samples; ``at`` in [0, 1) says where in a longer clip it lies.

    It is decoded straight into the beginning of ``into``, int16[width], where there is one.
    """

    at: float
    width: int
    into: np.ndarray | None = None

    def first(self, num_samples: int) -> int:
        """First sample of the stretch."""
        return int(self.at * (num_samples - self.width + 1)) if num_samples > self.width else 0


def decode_audio(data: bytes | memoryview, codec: str, num_samples: int, crop: Crop | None = None) -> np.ndarray:
    """The int16[num_samples] that ``writing.encode_audio`` was given, or only the stretch ``crop`` of it.

    Raises:
      ValueError: ``data`` does not hold ``num_samples`` samples.
    """
    crop = crop or Crop(0.0, num_samples)
    first, count = crop.first(num_samples), min(crop.width, num_samples)
    sound = np.empty(count, np.int16) if crop.into is None else crop.into[:count]
    if codec == "pcm":
        stored = np.frombuffer(data, "<i2")
        held, stretch = len(stored), stored[first : first + count]
        if held == num_samples:
            sound[:] = stretch
    else:
        held = _decode_flac(data, num_samples, first, sound)
    if held != num_samples:
        raise ValueError(f"it holds {held} samples but states {num_samples}")
    return sound


def _decode_flac(data: bytes | memoryview, num_samples: int, first: int, sound: np.ndarray) -> int:
    """Fills ``sound`` with the samples from ``first`` on, and returns how many ``data`` holds.

    dr_flac takes half the time of libFLAC for the same samples, and lets other threads run meanwhile: libsndfile would
    call back into Python for every few kilobytes of a file in memory.
    """
    stream = lib.ma_dr_flac_open_memory(ffi.from_buffer(data), len(data), ffi.NULL)
    if not stream:
        raise ValueError("its audio is not FLAC")
    try:
        if stream.channels != 1:
            raise ValueError(f"its audio has {stream.channels} channels")
        if stream.totalPCMFrameCount != num_samples:
            return stream.totalPCMFrameCount
        if first and not lib.ma_dr_flac_seek_to_pcm_frame(stream, first):
            return first
        read = lib.ma_dr_flac_read_pcm_frames_s16(stream, len(sound), ffi.from_buffer("short[]", sound))
        # the header states how many there are; a stream that ends early shows only here
        return num_samples if read == len(sound) else first + read
    finally:
        lib.ma_dr_flac_close(stream)


def decode(data: bytes, where: str, audio: bool | Crop = True) -> Record:
    """Inverse of ``encode``; ``where`` names the record in errors.

    ``audio=False`` does not decode the sound; a ``Crop`` decodes only that stretch.

    Raises:
      DataError: ``data`` is not such a record, or its audio does not have the stated length.
    """
    try:
        stored, feature = _parse(data)
        sound = None
        if audio:
            (num_samples,), (codec,) = feature["num_samples"].int64_list.value, texts_of(feature, "codec")
            crop = audio if isinstance(audio, Crop) else None
            sound = decode_audio(stored, codec, num_samples, crop)
        return _record(feature, sound)
    except (DecodeError, ValueError, IndexError) as error:
        raise DataError(f"{where}: not a record of this project: {error}") from None


def texts_of(feature: Any, name: str) -> tuple[str, ...]:
    """The texts of one of a record's features; () where it has none of that name."""
    return tuple([value.decode() for value in feature[name].bytes_list.value])


def soundless(feature: Any) -> Record:
    """The record with these features, without its audio."""
    return _record(feature, None)


def _record(feature: Any, sound: np.ndarray | None) -> Record:
    (num_samples,) = feature["num_samples"].int64_list.value
    onsets, offsets = feature["events/onset"].float_list.value, feature["events/offset"].float_list.value
    return Record(
        **{name: texts_of(feature, name)[0] for name in ("id", "source", "recording", "split", "group", "license")},
        audio=sound,
        num_samples=num_samples,
        captions=texts_of(feature, "captions"),
        tags=texts_of(feature, "tags"),
        labels={name[len(LABEL) :]: texts_of(feature, name)[0] for name in sorted(feature) if name.startswith(LABEL)},
        events=tuple(Event(*event) for event in zip(onsets, offsets, texts_of(feature, "events/label"), strict=True)),
    )


def _parse(data: bytes) -> tuple[bytes | memoryview, Any]:
    """The audio of a record and its other features.

    The audio is most of a record, so it stays where it is if ``encode`` put it there; any other record of the same
    meaning is parsed as a whole.
    """
    # The proto itself rather than the parser of TensorFlow Datasets (core.example_parser.ExampleParserNp, which needs
    # no TensorFlow either): that one needs every feature in advance, but labels depend on the corpora.
    example = tf_example_generated_pb2.Example()
    entry = audio_entry(data[:HEAD], len(data))
    if entry:
        at, end = entry[0] + len(_AUDIO_KEY), entry[1]
        for tag in _AUDIO_VALUE:
            size, at = _varint(data, at + 1) if data[at : at + 1] == tag else (-1, at)
            if at + size != end:
                break
        else:
            example.features.MergeFromString(data[end:])
            return memoryview(data)[at:end], example.features.feature
    example.MergeFromString(data)
    feature = example.features.feature
    return feature["audio"].bytes_list.value[0], feature


def audio_entry(head: bytes, length: int) -> tuple[int, int] | None:
    """Bytes at which the entry of the audio begins and ends in a record that begins with ``head``.

    None where the audio is not the first feature; it is in everything that ``encode`` made.
    """
    if head[:1] != b"\n":  # Example.features
        return None
    size, at = _varint(head, 1)
    if at + size != length or head[at : at + 1] != b"\n":  # and its first entry
        return None
    size, at = _varint(head, at + 1)
    return (at, at + size) if head[at : at + len(_AUDIO_KEY)] == _AUDIO_KEY and at + size <= length else None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of a protocol buffer at byte ``at``, and the byte after it."""
    value = shift = 0
    while data[at] & 0x80:
        value, shift, at = value | (data[at] & 0x7F) << shift, shift + 7, at + 1
    return value | data[at] << shift, at + 1


def masked_crc(data: bytes) -> int:
    """CRC-32C rotated by 15 bits plus a constant, as TFRecord stores it."""
    crc = google_crc32c.value(data)
    # Python's integers do not wrap: the final mask drops the bits that the shift to the left moves beyond 32
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    """One framed record."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, struct.pack("<I", masked_crc(length)), data, struct.pack("<I", masked_crc(data))))


def _length(header: bytes, where: str) -> int:
    if len(header) < HEADER:
        raise DataError(f"{where}: the file ends inside the record header")
    length, crc = struct.unpack("<QI", header)
    if masked_crc(header[:8]) != crc:
        raise DataError(f"{where}: checksum of the record length does not match; the shard is damaged")
    return length


def _data(data: bytes, length: int, footer: bytes, where: str) -> bytes:
    if len(data) < length or len(footer) < FOOTER:
        raise DataError(f"{where}: the file ends inside the record")
    if masked_crc(data) != struct.unpack("<I", footer)[0]:
        raise DataError(f"{where}: checksum of the record data does not match; the shard is damaged")
    return data


@dataclasses.dataclass(frozen=True)
class Frame:
    """Where a record lies by the index: its frame starts at byte ``offset`` and holds ``length`` bytes of data."""

    path: storage.Location
    record: int
    offset: int
    length: int

    def __str__(self) -> str:
        return f"{self.path} record {self.record}"


class FrameBytes(NamedTuple):
    """The bytes of a frame."""

    header: bytes
    data: bytes
    footer: bytes


def as_frame_bytes(found: bytes) -> FrameBytes:
    """Cuts a whole frame into its parts."""
    return FrameBytes(found[:HEADER], found[HEADER:-FOOTER], found[-FOOTER:])


def fetch(frames: list[Frame]) -> list[FrameBytes]:
    """The bytes of frames, for ``unpack``: of local files, or of one object store, which is asked for all in parallel.

    Raises:
      DataError: a file is missing or unreadable.
    """
    try:
        if "://" not in str(frames[0].path):
            return [_read(frame) for frame in frames]
        ranges = [(frame.path, frame.offset, HEADER + frame.length + FOOTER) for frame in frames]
        return [as_frame_bytes(found) for found in storage.read_ranges(ranges)]
    except OSError as error:
        which = f"{frames[0]}:" if len(frames) == 1 else f"{frames[0]} or a later one of {len(frames)}"
        raise DataError(f"{which} cannot be read: {error.strerror or error}") from None


def _read(frame: Frame) -> FrameBytes:
    """Reads one frame; opens the file for it, so nothing is shared between threads or processes."""
    descriptor, data = os.open(frame.path, os.O_RDONLY), frame.offset + HEADER
    try:
        # three calls cost less than to copy the data out of one block
        return FrameBytes(
            os.pread(descriptor, HEADER, frame.offset),
            os.pread(descriptor, frame.length, data),
            os.pread(descriptor, FOOTER, data + frame.length),
        )
    finally:
        os.close(descriptor)


def unpack(block: FrameBytes, frame: Frame) -> bytes:
    """The data in ``block``, the bytes of a frame.

    Raises:
      DataError: a checksum fails, or the stored length differs from the one in the index.
    """
    stored = _length(block.header, str(frame))
    if stored != frame.length:
        raise DataError(f"{frame}: the shard says {stored} bytes and the index says {frame.length}")
    return _data(block.data, frame.length, block.footer, str(frame))


def scan(file: BinaryIO, name: str, size: int) -> Iterator[tuple[int, bytes]]:
    """Yields (frame offset, data) of every record in order; ``size`` is the file's size in bytes.

    Raises:
      DataError: at the first damaged record; records after a damaged length cannot be found without the index.
    """
    offset = record = 0
    while header := file.read(HEADER):
        where = f"{name} record {record}"
        length = _length(header, where)
        if offset + HEADER + length + FOOTER > size:
            raise DataError(f"{where}: the file ends inside the record")
        yield offset, _data(file.read(length), length, file.read(FOOTER), where)
        offset += HEADER + length + FOOTER
        record += 1
