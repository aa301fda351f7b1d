"""The links of a chained Ogg file: whole streams one after another, as internet radio and ``cat`` make them."""

import os
from typing import BinaryIO

from alp_jax.data.audio.errors import BadAudio

_PAGE = 27  # bytes of a page before its segment table (RFC 3533, section 6)
_BEGINS = 2  # flag of the first page of a stream


def links(file: BinaryIO) -> list[tuple[int, int]]:
    """(offset, length) of every link. Only page headers are read.

    Raises:
      BadAudio: ``corrupt``: the last page is cut off.
    """
    size = file.seek(0, os.SEEK_END)
    starts, began, at = [], False, 0
    while at + _PAGE <= size:
        file.seek(at)
        head = file.read(_PAGE + 255)
        if not head.startswith(b"OggS"):
            at = _next_page(file, at, size)
            continue
        begins = bool(head[5] & _BEGINS)
        if begins and not began:  # streams that run side by side begin together
            starts.append(at)
        began = begins
        table = head[_PAGE : _PAGE + head[26]]
        at += _PAGE + head[26] + sum(table)
        if len(table) < head[26] or at > size:
            raise BadAudio("corrupt", "the last Ogg page is cut off")
    return [(start, end - start) for start, end in zip(starts, [*starts[1:], size], strict=True)]


def _next_page(file: BinaryIO, at: int, size: int) -> int:
    """Offset of the next page after damaged data; ``size`` if there is none."""
    while at < size:
        file.seek(at)
        data = file.read(1 << 16)
        offset = data.find(b"OggS")
        if offset >= 0:
            return at + offset
        at += max(1, len(data) - 3)  # the mark may straddle two reads
    return size
