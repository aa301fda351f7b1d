"""Where the samples of a WAV, AIFF or AU file lie if its header is wrong or was never finished.

Recorders write a size of 0 and fill it in at the end, or never; some files have their samples in several chunks.
libsndfile trusts the header; the spans found here let it decode the bytes as raw samples instead.
"""

import os
import struct
from typing import BinaryIO, NamedTuple

from alp_jax.data.audio.errors import BadAudio

_PCM, _FLOAT, _ALAW, _ULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_WAV_CODES = {
    (_PCM, 1): "PCM_U8",
    (_PCM, 2): "PCM_16",
    (_PCM, 3): "PCM_24",
    (_PCM, 4): "PCM_32",
    (_FLOAT, 4): "FLOAT",
    (_FLOAT, 8): "DOUBLE",
    (_ALAW, 1): "ALAW",
    (_ULAW, 1): "ULAW",
}  # (format tag, bytes per sample)
_AU_CODES = {1: "ULAW", 2: "PCM_S8", 3: "PCM_16", 4: "PCM_24", 5: "PCM_32", 6: "FLOAT", 7: "DOUBLE", 27: "ALAW"}
_BYTES = {subtype: width for (_, width), subtype in _WAV_CODES.items()} | {"PCM_S8": 1}
_AIFF_CODES = {
    (b"NONE", 1): "PCM_S8",
    (b"NONE", 2): "PCM_16",
    (b"NONE", 3): "PCM_24",
    (b"NONE", 4): "PCM_32",
    (b"sowt", 2): "PCM_16",
    (b"fl32", 4): "FLOAT",
    (b"fl64", 8): "DOUBLE",
    (b"ulaw", 1): "ULAW",
    (b"ulaw", 2): "ULAW",
    (b"alaw", 1): "ALAW",
    (b"alaw", 2): "ALAW",
}  # (compression, bytes per sample; for A-law and mu-law some writers state those of the decoded samples)
_UNKNOWN = 0x7FFF0000  # sizes from here on mean "up to the end of the file"
_MOST_CHUNKS = 4096
_PADDING = 4096  # bytes that may follow the samples without being chunks or samples
_OVER = 64  # bytes of headers that a writer may count as samples: a file that lacks no more is not cut short
_NAMES = {b"data", b"LIST", b"id3 ", b"ID3 ", b"bext", b"iXML", b"cue ", b"smpl", b"fact", b"PEAK", b"JUNK", b"junk"}
_NAMES |= {b"RIFF", b"COMM", b"MARK", b"INST", b"APPL", b"COMT", b"CHAN", b"ANNO", b"NAME", b"AUTH"}
_TAGS = (b"ID3", b"TAG", b"APETAGEX")


class Pcm(NamedTuple):
    """Plain samples in ``spans`` (offset, length) of a file."""

    subtype: str
    endian: str
    rate: int
    channels: int
    spans: tuple[tuple[int, int], ...]


def unlike_header(file: BinaryIO, kind: str) -> Pcm | None:
    """The samples of a ``riff``, ``au`` or ``aiff`` file if libsndfile would miss some; None if it finds them all.

    A size counts as wrong if more than _PADDING bytes follow that are neither chunks nor zeros, or if the file ends at
    most _OVER bytes early.

    Raises:
      BadAudio: ``corrupt``: the data of an RF64 file or the last of several data chunks is cut short, or the parts
        have different formats.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    layout = {"riff": _wav, "au": _au, "aiff": _aiff}[kind](file, size)
    if layout is None or not layout.channels:
        return None
    frame = layout.channels * _BYTES[layout.subtype]
    spans = tuple((start, length // frame * frame) for start, length in layout.spans if length >= frame)
    return layout._replace(spans=spans) if spans else None


def _wav(file: BinaryIO, size: int) -> Pcm | None:
    large = file.read(4) == b"RF64"  # its data size is in ds64, and 0 if never filled in
    form, spans, odd, at, stated = b"", [], False, 12, 0
    for _ in range(_MOST_CHUNKS):
        if at + 8 > size:
            break
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        at += 8
        rest = size - at
        if name == b"RIFF" and file.read(4) == b"WAVE":  # another file appended to the first
            at += 4
            continue
        if name == b"fmt ":
            if spans and file.read(min(length, 40)) != form:
                raise BadAudio("corrupt", "two files of different forms, one after the other")
            file.seek(at)
            form = file.read(min(length, 40))
        elif name == b"ds64" and length >= 16:
            stated = int.from_bytes(file.read(16)[8:], "little")
            stated = 0 if stated >= 1 << 63 else stated
        elif name == b"data":
            unknown = length >= _UNKNOWN
            if unknown and not spans and not large:
                return None  # libsndfile reads to the end
            if unknown and not spans and stated:
                unknown, length = False, stated
            if unknown or _wrong(file, at, length, size):
                spans.append((at, rest))
                odd = True
                break
            if length > rest:
                if spans or large:
                    raise BadAudio("corrupt", f"only {rest} of {length} bytes of the last data chunk")
                return None  # libsndfile reports that it is cut short
            if length:
                spans.append((at, length))
        at += length + length % 2
    if len(form) < 16 or not (odd or len(spans) > 1):
        return None
    tag, channels, rate, _, align = struct.unpack("<HHIIH", form[:14])
    if tag == _EXTENSIBLE and len(form) >= 26:
        (tag,) = struct.unpack("<H", form[24:26])
    subtype = _WAV_CODES.get((tag, align // channels if channels else 0))
    return Pcm(subtype, "LITTLE", rate, channels, tuple(spans)) if subtype else None


def _wrong(file: BinaryIO, at: int, length: int, size: int, order: str = "<") -> bool:
    """Whether the samples of a file of ``size`` bytes are not the ``length`` bytes from ``at`` on."""
    over = length - (size - at)
    if not length:
        return over < 0 and not _chunks(file, at, size, order)
    if over > 0:
        return over <= _OVER and size > at
    if -over <= _PADDING:
        return False
    end = _after_zeros(file, at + length)
    return end < size and not any(_chunks(file, start, size, order) for start in (end, end + end % 2))


def _after_zeros(file: BinaryIO, at: int) -> int:
    """Offset of the first nonzero byte from ``at`` on."""
    file.seek(at)
    while block := file.read(1 << 16):
        if left := len(block.lstrip(b"\0")):
            return at + len(block) - left
        at += len(block)
    return at


def _chunks(file: BinaryIO, at: int, size: int, order: str) -> bool:
    """Whether from ``at`` on there is a tag, a known chunk, whole chunks up to the end of the file, or nothing."""
    for _ in range(_MOST_CHUNKS):
        if at + 8 > size:
            break
        file.seek(at)
        head = file.read(8)
        name, length = struct.unpack(order + "4sI", head)
        if name in _NAMES or head.startswith(_TAGS):
            return True
        if not all(0x20 <= byte < 0x7F for byte in name):
            return False
        at += 8 + length + length % 2
    return at <= size + 8


def _au(file: BinaryIO, size: int) -> Pcm | None:
    head = file.read(24)
    if len(head) < 24:
        return None
    start, length, code, rate, channels = struct.unpack(">IIIII", head[4:])
    if code not in _AU_CODES or start < 24 or not _wrong(file, start, length, size, ">"):  # 0xFFFFFFFF: to the end
        return None
    return Pcm(_AU_CODES[code], "BIG", rate, channels, ((start, size - start),))


def _aiff(file: BinaryIO, size: int) -> Pcm | None:
    """As ``_wav``; a size of 0 is left to libsndfile, which then finds the samples."""
    coding = file.read(12)[8:]
    if coding not in (b"AIFF", b"AIFC"):
        return None
    common, at = b"", 12
    for _ in range(_MOST_CHUNKS):
        if at + 16 > size:
            return None
        file.seek(at)
        name, length, offset = struct.unpack(">4sII", file.read(12))
        if name == b"COMM" and length >= 18:
            file.seek(at + 8)
            common = file.read(22)
        elif name == b"SSND":
            break
        at += 8 + length + length % 2
    start = at + 16 + offset
    if len(common) < 22 or length <= 8 + offset or not _wrong(file, start, length - 8 - offset, size, ">"):
        return None
    channels, _, bits, exponent, mantissa, kind = struct.unpack(">hIhHQ4s", common)[:6]
    kind = kind if coding == b"AIFC" else b"NONE"
    kind = {b"twos": b"NONE", b"FL32": b"fl32", b"FL64": b"fl64", b"ULAW": b"ulaw", b"ALAW": b"alaw"}.get(kind, kind)
    subtype = _AIFF_CODES.get((kind, (bits + 7) // 8))
    if subtype is None or channels < 1 or not 0 <= exponent - 16383 < 64:
        return None
    rate = mantissa >> (63 - (exponent - 16383))  # an 80-bit float
    return Pcm(subtype, "LITTLE" if kind == b"sowt" else "BIG", rate, channels, ((start, size - start),))
