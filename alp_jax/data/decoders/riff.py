"""Where the samples of a WAV or AU file lie when its header is wrong or never was finished.

Recorders write a size of 0 and fill it in at the end, or never; some files have their samples in several chunks.
libsndfile takes the header's word; here it is asked to decode the bytes themselves.
"""

import os
import struct
from typing import BinaryIO, NamedTuple

from alp_jax.data.decoders.contract import BadAudio

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
_BYTES = {
    "PCM_U8": 1,
    "PCM_S8": 1,
    "PCM_16": 2,
    "PCM_24": 3,
    "PCM_32": 4,
    "FLOAT": 4,
    "DOUBLE": 8,
    "ALAW": 1,
    "ULAW": 1,
}
_UNKNOWN = 0x7FFF0000  # sizes from here on mean: to the end
_MOST_CHUNKS = 4096
_NAMES = {b"data", b"LIST", b"id3 ", b"ID3 ", b"bext", b"iXML", b"cue ", b"smpl", b"fact", b"PEAK", b"JUNK", b"junk"}


class Pcm(NamedTuple):
    """Plain samples in ``spans`` (offset, length) of a file."""

    subtype: str
    endian: str
    rate: int
    channels: int
    spans: tuple[tuple[int, int], ...]


def unlike_header(file: BinaryIO, kind: str) -> Pcm | None:
    """The samples of a ``riff`` or ``au`` file that libsndfile would not find; None when its header can be followed.

    A size counts as wrong when it is 0 or less than half of what follows, and what follows are not chunks.

    Raises:
      BadAudio: ``corrupt``, the last of several data chunks is cut short or the parts have different forms.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    found = _au(file, size) if kind == "au" else _wav(file, size)
    if found is None or not found.channels:
        return None
    frame = found.channels * _BYTES[found.subtype]
    spans = tuple((start, length // frame * frame) for start, length in found.spans if length >= frame)
    return found._replace(spans=spans) if spans else None


def _wav(file: BinaryIO, size: int) -> Pcm | None:
    filled = file.read(4) != b"RF64"  # RF64 has the size of its data in ds64, 0 when that was never filled in
    form, spans, odd, at = b"", [], False, 12
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
        elif name == b"ds64":
            filled = any(file.read(16)[8:])
        elif name == b"data":
            if length >= _UNKNOWN and filled and not spans:
                return None  # libsndfile reads to the end
            if length >= _UNKNOWN or (2 * length < rest and not _chunks(file, at + length, size)):
                spans.append((at, rest))
                odd = True
                break
            if length > rest:
                if spans:
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


def _chunks(file: BinaryIO, at: int, size: int) -> bool:
    """Whether a chunk that is known, whole chunks to the end of the file, or nothing follows from ``at``."""
    at += at % 2
    for _ in range(_MOST_CHUNKS):
        if at + 8 > size:
            break
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        if name in _NAMES:
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
    rest = size - start
    if code not in _AU_CODES or start < 24 or rest <= 0 or length >= rest // 2:  # 0xFFFFFFFF: to the end, by the format
        return None
    return Pcm(_AU_CODES[code], "BIG", rate, channels, ((start, rest),))
