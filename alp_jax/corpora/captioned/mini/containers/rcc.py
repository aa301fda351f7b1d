"""Qt binary resource files (.rcc), versions 1 to 3, as written by Qt's resource compiler.

Header: ``qres``, then version and the offsets of tree, data and names as big-endian 32-bit numbers. A tree node is
14 bytes (22 from version 2): name offset u32, flags u16, and for a folder the number and index of its first child,
for a file locale u32 and data offset u32. A name is a u16 length, a u32 hash and UTF-16BE text. File data is a u32
length and bytes; compressed data (flag 1) starts with the u32 unpacked length and is a zlib stream.
"""

import pathlib
import struct
import zlib

from alp_jax.core.errors import DataError
from alp_jax.corpora.captioned.mini.containers.sink import Sink

COMPRESSED, FOLDER, ZSTD = 1, 2, 4
_DEPTH = 32
_NODES = 100_000


class _Reader:
    def __init__(self, blob: bytes):
        if blob[:4] != b"qres":
            raise DataError("not a Qt resource file")
        self.blob = blob
        version, self.tree, self.data, self.names = self.numbers(">4I", 4)
        if version not in (1, 2, 3):
            raise DataError(f"Qt resource version {version} is not known")
        self.node_bytes = 14 if version == 1 else 22

    def numbers(self, form: str, offset: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(form, self.blob, offset)
        except struct.error:
            raise DataError(f"Qt resource file is truncated at byte {offset}") from None

    def slice(self, offset: int, size: int) -> bytes:
        if offset + size > len(self.blob):
            raise DataError(f"Qt resource file is truncated at byte {offset}")
        return self.blob[offset : offset + size]

    def name(self, offset: int) -> str:
        (length,) = self.numbers(">H", self.names + offset)
        return self.slice(self.names + offset + 6, 2 * length).decode("utf-16-be", errors="replace")


def _content(reader: _Reader, name: str, flags: int, offset: int, sink: Sink) -> bytes:
    (size,) = reader.numbers(">I", reader.data + offset)
    raw = reader.slice(reader.data + offset + 4, size)
    if flags & ZSTD:
        raise DataError(f"{name!r} is zstd-compressed, which is not supported")
    if not flags & COMPRESSED:
        return raw
    if size < 4:
        raise DataError(f"{name!r} is truncated")
    (unpacked,) = struct.unpack_from(">I", raw)
    sink.room(name, unpacked)
    try:
        content = zlib.decompressobj().decompress(raw[4:], unpacked + 1)
    except zlib.error as error:
        raise DataError(f"{name!r} is damaged: {error}") from None
    if len(content) != unpacked:
        raise DataError(f"{name!r} is not as long as the file says")
    return content


def unpack_rcc(path: pathlib.Path, sink: Sink) -> None:
    """Writes the wanted files of a Qt resource file to ``sink``.

    Raises:
      DataError: wrong magic or version, truncated, a tree that loops, unsafe names, or over the limits.
    """
    reader = _Reader(path.read_bytes())
    stack, visited = [(0, "", 0)], 0
    while stack:
        index, parent, depth = stack.pop()
        visited += 1
        if depth > _DEPTH or visited > _NODES:
            raise DataError("the tree of the Qt resource file loops or is too large")
        at = reader.tree + index * reader.node_bytes
        name_offset, flags = reader.numbers(">IH", at)
        name = f"{parent}/{reader.name(name_offset)}" if parent else (reader.name(name_offset) if index else "")
        if flags & FOLDER:
            count, first = reader.numbers(">II", at + 6)
            if count > _NODES:
                raise DataError("the tree of the Qt resource file is too large")
            stack.extend((first + i, name, depth + 1) for i in reversed(range(count)))
        elif sink.wants(name):
            (offset,) = reader.numbers(">I", at + 10)
            sink.write(name, _content(reader, name, flags, offset, sink))
