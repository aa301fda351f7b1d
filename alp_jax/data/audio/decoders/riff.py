"""Where the samples of a WAV, AIFF or AU file lie when its header is wrong or never was finished.

Recorders write a size of 0 and fill it in at the end, or never; some files have their samples in several chunks.
libsndfile takes the header's word; here it is asked to decode the bytes themselves.
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
}  # (format tag, bytes a sample)
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
}  # (compression, bytes a sample: of the laws some writers state those of what comes out)
_UNKNOWN = 0x7FFF0000  # sizes from here on mean: to the end
_MOST_CHUNKS = 4096
_PADDING = 4096  # bytes that may follow the samples and be neither chunks nor samples
_OVER = 64  # bytes by which a writer may count headers as samples: no file is taken to be cut short for them
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
    """The samples of a ``riff``, ``au`` or ``aiff`` file that libsndfile would not find; None: it finds them all.

    A size counts as wrong when more follows than _PADDING, and what follows are neither chunks nor zeros, and when the
    file ends at most _OVER bytes before it.

    Raises:
      BadAudio: ``corrupt``, the data of an RF64 file or the last of several data chunks is cut short, or the parts
        have different forms.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    found = {"riff": _wav, "au": _au, "aiff": _aiff}[kind](file, size)
    if found is None or not found.channels:
        return None
    frame = found.channels * _BYTES[found.subtype]
    spans = tuple((start, length // frame * frame) for start, length in found.spans if length >= frame)
    return found._replace(spans=spans) if spans else None


def _wav(file: BinaryIO, size: int) -> Pcm | None:
    large = file.read(4) == b"RF64"  # which has the size of its data in ds64, 0 when that was never filled in
    form, spans, odd, at, stated = b"", [], False, 12, 0
    for _ in range(_MOST_CHUNKS):
        if at + 8 > size:
            break
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        at += 8
        rest = size - at
        if name == b"RIFF" and file.read(4) == b"WAVE":  # another file behind the first
            at += 4
            continue
        if name == b"fmt ":
            if spans and file.read(min(length, 40)) != form:
                raise BadAudio("corrupt", "two files of different forms, one behind the other")
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
                    raise BadAudio("corrupt", f"{rest} of {length} bytes of the last data chunk are there")
                return None  # libsndfile says that it is cut short
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
    """Whether ``length`` bytes from ``at`` are not what there is of samples in a file of ``size`` bytes."""
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
    """Where the first byte from ``at`` on lies that is not 0."""
    file.seek(at)
    while block := file.read(1 << 16):
        if left := len(block.lstrip(b"\0")):
            return at + len(block) - left
        at += len(block)
    return at


def _chunks(file: BinaryIO, at: int, size: int, order: str) -> bool:
    """Whether a tag, a chunk that is known, whole chunks to the end of the file, or nothing follows from ``at``."""
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
    """libsndfile finds the samples where the size is 0."""
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
