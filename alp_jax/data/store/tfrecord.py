"""TFRecord framing: ``length u64 | masked crc32c(length) u32 | data | masked crc32c(data) u32``, little endian.

Byte-identical to what TensorFlow writes; both checksums are checked on every read, which readers in this ecosystem
commonly skip. Damage raises DataError that names the shard and the record.
"""

import dataclasses
import struct
from collections.abc import Iterator
from typing import BinaryIO

import google_crc32c

from alp_jax.core import storage
from alp_jax.core.errors import DataError

HEADER = 12  # bytes before the data
FOOTER = 4  # bytes after it
_MASK_DELTA = 0xA282EAD8


def masked_crc(data: bytes) -> int:
    """CRC-32C rotated by 15 bits plus a constant, as TFRecord stores it."""
    crc = google_crc32c.value(data)
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
    """Where a record lies according to the index: its frame starts at byte ``offset`` and holds ``length`` bytes."""

    path: storage.Location
    record: int
    offset: int
    length: int

    def __str__(self) -> str:
        return f"{self.path} record {self.record}"


def read_at(frame: Frame) -> bytes:
    """Data of one record. Opens the file for this one read, so nothing is shared between threads or processes.

    Raises:
      DataError: the file is missing or unreadable, a checksum fails, or the stored length is not the index's.
    """
    try:
        block = storage.read_range(frame.path, frame.offset, HEADER + frame.length + FOOTER)
    except OSError as error:
        raise DataError(f"{frame}: cannot be read: {error.strerror or error}") from None
    return unpack(block, frame)


def fetch(frames: list[Frame]) -> list[bytes]:
    """The bytes of many frames, for ``unpack``; requests to an object store run side by side."""
    try:
        return storage.read_ranges([(f.path, f.offset, HEADER + f.length + FOOTER) for f in frames])
    except OSError as error:
        raise DataError(f"{frames[0]} or a later one of {len(frames)} cannot be read: {error}") from None


def unpack(block: bytes, frame: Frame) -> bytes:
    """Data of the record in the bytes of its frame; DataError as ``read_at``."""
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
