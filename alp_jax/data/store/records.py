"""Clips as records of a shard: standard ``tf.train.Example`` in standard TFRecord framing, without TensorFlow.

A frame is ``length u64 | masked crc32c(length) u32 | data | masked crc32c(data) u32``, little endian, byte-identical to
what TensorFlow writes. Both checksums are verified on every read, which many readers skip. Damage raises a DataError
that names the shard and the record.
"""

import dataclasses
import io
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TypeVar

import google_crc32c
import numpy as np
import soundfile
from google.protobuf.message import DecodeError
from miniaudio import ffi, lib
from tensorflow_datasets.proto import tf_example_generated_pb2

from alp_jax.core import storage
from alp_jax.core.clip import SAMPLE_RATE, Clip, Event
from alp_jax.core.errors import DataError

T = TypeVar("T")

CODECS = ("flac", "pcm")
_LABEL = "labels/"
HEADER = 12  # bytes before the data
FOOTER = 4  # bytes after it
_MASK_DELTA = 0xA282EAD8
_SKIMMED, _AUDIO_KEY = 64, b"\n\x05audio"  # bytes in which the first feature's name lies, and that name


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


def encode_audio(audio: np.ndarray, codec: str) -> bytes:
    """int16[n] at 16 kHz as FLAC (lossless, about half the size) or little-endian PCM."""
    if codec == "pcm":
        return audio.astype("<i2").tobytes()
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


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


def decode_audio(data: bytes, codec: str, num_samples: int, crop: Crop | None = None) -> np.ndarray:
    """The int16[num_samples] that ``encode_audio`` was given, or only the stretch ``crop`` of it.

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


def _decode_flac(data: bytes, num_samples: int, first: int, sound: np.ndarray) -> int:
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


def encode(clip: Clip, audio: np.ndarray, codec: str) -> bytes:
    """Serialises ``clip`` with its decoded ``audio`` (int16[n], 16 kHz mono); equal inputs give equal bytes."""
    example = tf_example_generated_pb2.Example()
    feature = example.features.feature

    def put(name: str, *values: str | bytes):
        feature[name].bytes_list.value.extend(v.encode() if isinstance(v, str) else v for v in values)

    for name in ("id", "source", "recording", "split", "group", "license"):
        put(name, getattr(clip, name))
    put("audio", encode_audio(audio, codec))
    put("codec", codec)
    put("captions", *clip.captions)
    put("tags", *clip.tags)
    for task, label in clip.labels.items():
        put(_LABEL + task, label)
    put("events/label", *(event.label for event in clip.events))
    feature["events/onset"].float_list.value.extend(event.onset_s for event in clip.events)
    feature["events/offset"].float_list.value.extend(event.offset_s for event in clip.events)
    feature["num_samples"].int64_list.value.append(len(audio))
    return example.SerializeToString(deterministic=True)  # else the order of a map's entries is undefined


def decode(data: bytes, where: str, audio: bool | Crop = True) -> Record:
    """Inverse of ``encode``; ``where`` names the record in errors.

    ``audio=False`` does not decode the sound; a ``Crop`` decodes only that stretch.

    Raises:
      DataError: ``data`` is not such a record, or its audio does not have the stated length.
    """
    try:
        # The proto itself rather than the parser of TensorFlow Datasets (core.example_parser.ExampleParserNp, which
        # needs no TensorFlow either): that one needs every feature in advance, but labels depend on the corpora.
        feature = tf_example_generated_pb2.Example.FromString(data).features.feature
        sound = None
        if audio:
            (num_samples,), (codec,) = feature["num_samples"].int64_list.value, _texts(feature, "codec")
            crop = audio if isinstance(audio, Crop) else None
            sound = decode_audio(feature["audio"].bytes_list.value[0], codec, num_samples, crop)
        return _record(feature, sound)
    except (DecodeError, ValueError, IndexError) as error:
        raise DataError(f"{where}: not a record of this project: {error}") from None


def _texts(feature: Any, name: str) -> tuple[str, ...]:
    return tuple(value.decode() for value in feature[name].bytes_list.value)


def captions_of(feature: Any) -> tuple[str, ...]:
    """The captions in the features of a record."""
    return _texts(feature, "captions")


def soundless(feature: Any) -> Record:
    """The record with these features, without its audio."""
    return _record(feature, None)


def _record(feature: Any, sound: np.ndarray | None) -> Record:
    (num_samples,) = feature["num_samples"].int64_list.value
    onsets, offsets = feature["events/onset"].float_list.value, feature["events/offset"].float_list.value
    return Record(
        **{name: _texts(feature, name)[0] for name in ("id", "source", "recording", "split", "group", "license")},
        audio=sound,
        num_samples=num_samples,
        captions=_texts(feature, "captions"),
        tags=_texts(feature, "tags"),
        labels={name[len(_LABEL) :]: _texts(feature, name)[0] for name in sorted(feature) if name.startswith(_LABEL)},
        events=tuple(Event(*event) for event in zip(onsets, offsets, _texts(feature, "events/label"), strict=True)),
    )


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


def _data(body: bytes, length: int, where: str) -> bytes:
    if len(body) < length + FOOTER:
        raise DataError(f"{where}: the file ends inside the record")
    data = body[:length]
    if masked_crc(data) != struct.unpack("<I", body[length : length + FOOTER])[0]:
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


def fetch(frames: list[Frame]) -> list[bytes]:
    """The bytes of frames, for ``unpack``: of local files, or of one object store, which is asked for all in parallel.

    Raises:
      DataError: a file is missing or unreadable.
    """
    ranges = [(frame.path, frame.offset, HEADER + frame.length + FOOTER) for frame in frames]
    try:
        return storage.read_ranges(ranges) if "://" in str(frames[0].path) else [_read(*each) for each in ranges]
    except OSError as error:
        which = f"{frames[0]}:" if len(frames) == 1 else f"{frames[0]} or a later one of {len(frames)}"
        raise DataError(f"{which} cannot be read: {error.strerror or error}") from None


def _read(path: storage.Location, offset: int, length: int) -> bytes:
    """Reads one range; opens the file for it, so nothing is shared between threads or processes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.pread(descriptor, length, offset)
    finally:
        os.close(descriptor)


def open_shard(frame: Frame) -> int:
    """A descriptor of the local shard that holds ``frame``, to be closed; DataError when it cannot be opened."""
    try:
        return os.open(frame.path, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"{frame} cannot be read: {error.strerror or error}") from None


def skim(descriptor: int, frame: Frame, take: Callable[[Any], T]) -> tuple[str, T] | None:
    """Id and ``take(features)`` of a record in an open file, without reading its audio, and so without its checksum.

    None where the audio is not the first feature, as it is in everything that ``encode`` made.

    Raises:
      DataError: it is not a record.
    """
    start = frame.offset + HEADER
    try:
        head, at = os.pread(descriptor, min(_SKIMMED, frame.length), start), 0
        for tag in (b"\n", b"\n"):  # Example.features, and its first entry
            if head[at : at + 1] != tag:
                return None
            size, at = _varint(head, at + 1)
        if head[at : at + len(_AUDIO_KEY)] != _AUDIO_KEY:
            return None
        rest = os.pread(descriptor, frame.length - at - size, start + at + size)
        features = tf_example_generated_pb2.Example().features
        features.MergeFromString(rest)
        (name,) = _texts(features.feature, "id")
        return name, take(features.feature)
    except (DecodeError, ValueError, IndexError, OSError) as error:
        raise DataError(f"{frame}: not a record of this project: {error}") from None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of a protocol buffer at byte ``at``, and the byte after it."""
    value = shift = 0
    while data[at] & 0x80:
        value, shift, at = value | (data[at] & 0x7F) << shift, shift + 7, at + 1
    return value | data[at] << shift, at + 1


def unpack(block: bytes, frame: Frame) -> bytes:
    """The data in ``block``, the bytes of a frame.

    Raises:
      DataError: a checksum fails, or the stored length differs from the one in the index.
    """
    stored = _length(block[:HEADER], str(frame))
    if stored != frame.length:
        raise DataError(f"{frame}: the shard says {stored} bytes and the index says {frame.length}")
    return _data(block[HEADER:], frame.length, str(frame))


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
        yield offset, _data(file.read(length + FOOTER), length, where)
        offset += HEADER + length + FOOTER
        record += 1
