"""Zip archives, also those split into volumes (``X.z01``, ``X.z02``, ..., ``X.zip``), read where they lie.

Python's zipfile reads no split archive, and joining the volumes would take their size again. The format is that of
PKWARE's APPNOTE.TXT 6.3.10: local headers (4.3.7), the directory (4.3.12) and its end (4.3.14 to 4.3.16).
"""

import os
import pathlib
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from alp_jax.core.errors import UserError

_END, _END64, _PLACE64, _ENTRY, _FILE = b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\1\2", b"PK\3\4"
_LONGEST_END = (1 << 16) + 64  # bytes: the longest comment and what comes before it
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _UTF8 = 0x1, 0x800
_UNSET16, _UNSET32 = 0xFFFF, 0xFFFFFFFF  # the value is among the extra fields of zip64


class Entry(NamedTuple):
    """A file in an archive: its name, where its header lies in the volumes taken as one file, its bytes there."""

    name: str
    start: int
    length: int


class ZipArchive:
    """An archive; ``path`` is the volume that ends in ``.zip``, the others lie beside it.

    Raises:
      UserError: no zip archive, damaged, or a volume is missing.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = pathlib.Path(path)
        try:
            self._open()
        except (OSError, ValueError, IndexError, struct.error) as error:
            raise self._unreadable(error) from None

    def entries(self) -> Iterator[Entry]:
        """The files in it, in their order."""
        try:
            yield from self._entries()
        except (OSError, ValueError, IndexError, struct.error) as error:
            raise self._unreadable(error) from None

    def read(self, start: int, length: int, most: int) -> tuple[str, bytes]:
        """Name and content of the file whose header lies at ``start`` and which takes ``length`` bytes.

        Content of more than ``most`` bytes is cut one byte later.

        Raises:
          ValueError: there is no such file, or it is encrypted, damaged or compressed in another way than by deflate.
          OSError: a volume cannot be read.
        """
        head = self._bytes(start, 30)
        if not head.startswith(_FILE):
            raise ValueError("no file begins there: the archive has changed")
        flags, method, name_length, extra_length = struct.unpack("<2xHH16xHH", head[4:])
        if flags & _ENCRYPTED:
            raise ValueError("it is encrypted")
        name = _text(self._bytes(start + 30, name_length), flags)
        data = self._bytes(start + 30 + name_length + extra_length, length)
        if method == _STORED:
            return name, data[: most + 1]
        if method != _DEFLATED:
            raise ValueError(f"it is compressed by method {method}; only stored and deflated files can be read")
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            content = inflate.decompress(data, most + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from None
        if not inflate.eof and len(content) <= most:
            raise ValueError("it is cut short")
        return name, content

    def _open(self) -> None:
        with open(self._path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LONGEST_END))
            tail = file.read()
        if (at := tail.rfind(_END)) < 0:
            raise ValueError("no directory at its end")
        last, first, _, self._count, self._size, offset = struct.unpack_from("<4H2L", tail, at + 4)
        if _UNSET16 in (last, first, self._count) or _UNSET32 in (self._size, offset):
            disk, offset64, volumes = struct.unpack_from("<LQL", tail, tail.rindex(_PLACE64, 0, at) + 4)
            self._find(max(volumes, 1))
            end = self._bytes(self._starts[disk] + offset64, 56)
            if not end.startswith(_END64):
                raise ValueError("no directory at its end")
            first, self._count, self._size, offset = struct.unpack_from("<L8xQQQ", end, 20)
        else:
            self._find(last + 1)
        self._directory = self._starts[first] + offset

    def _find(self, volumes: int) -> None:
        self._paths = [self._path.with_suffix(f".z{number:02}") for number in range(1, volumes)] + [self._path]
        lost = next((one for one in self._paths if not one.is_file()), None)
        if lost is not None:
            raise ValueError(f"it has {volumes} volumes, and {lost.name} is not beside it; fetch them all")
        self._starts = [0]
        for one in self._paths:
            self._starts.append(self._starts[-1] + one.stat().st_size)

    def _bytes(self, start: int, length: int) -> bytes:
        parts = []
        for path, first, end in zip(self._paths, self._starts, self._starts[1:], strict=False):
            if first < start + length and start < end:
                with open(path, "rb") as file:
                    file.seek(max(0, start - first))
                    parts.append(file.read(min(end, start + length) - max(first, start)))
        data = b"".join(parts)
        if len(data) < length:
            raise ValueError("it is cut short")
        return data

    def _entries(self) -> Iterator[Entry]:
        data, at = self._bytes(self._directory, self._size), 0
        for _ in range(self._count):
            if data[at : at + 4] != _ENTRY:
                raise ValueError("its directory is damaged")
            flags, length, size, name_length, extra_length, comment_length, disk, offset = struct.unpack_from(
                "<8xH10xLLHHHH6xL", data, at
            )
            extra = at + 46 + name_length
            name = _text(data[at + 46 : extra], flags)
            at = extra + extra_length + comment_length
            if _UNSET32 in (length, size, offset) or disk == _UNSET16:
                length, disk, offset = _wide(data[extra : extra + extra_length], size, length, disk, offset)
            if not name.endswith("/"):
                yield Entry(name, self._starts[disk] + offset, length)

    def _unreadable(self, error: Exception) -> UserError:
        why = getattr(error, "strerror", None) or str(error)
        return UserError(f"{self._path} cannot be read as a zip archive: {why}")


def _text(name: bytes, flags: int) -> str:
    return name.decode("utf-8" if flags & _UTF8 else "cp437", "surrogateescape")


def _wide(extra: bytes, size: int, length: int, disk: int, offset: int) -> tuple[int, int, int]:
    """(length, disk, offset) with those that are unset taken from the zip64 field, which holds only unset ones."""
    at = 0
    while at + 4 <= len(extra):
        kind, field_length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            field, at = extra[at + 4 : at + 4 + field_length], 0
            if size == _UNSET32:
                at += 8
            if length == _UNSET32:
                (length,), at = struct.unpack_from("<Q", field, at), at + 8
            if offset == _UNSET32:
                (offset,), at = struct.unpack_from("<Q", field, at), at + 8
            if disk == _UNSET16:
                (disk,) = struct.unpack_from("<L", field, at)
            return length, disk, offset
        at += 4 + field_length
    raise ValueError("its directory is damaged")
