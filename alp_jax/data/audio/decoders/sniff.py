"""Tells what a file is by its first bytes, whatever its name."""

import re
from typing import BinaryIO

HEAD = 4096
_MEDIA = (  # (offset, bytes found there, kind)
    (0, b"RIFF", "riff"),
    (0, b"RF64", "riff"),
    (0, b".snd", "au"),
    (0, b"fLaC", "flac"),
    (0, b"OggS", "ogg"),
    (0, b"FORM", "aiff"),
    (0, b"riff\x2e\x91\xcf\x11", "w64"),
    (0, b"caff", "caf"),
    (0, b"NIST_1A", "sphere"),
    (4, b"ftyp", "mov"),
    (4, b"moov", "mov"),
    (0, b"\x1a\x45\xdf\xa3", "matroska"),
)
EXTENSIONS = {
    "riff": ".wav",
    "au": ".au",
    "flac": ".flac",
    "ogg": ".ogg",
    "aiff": ".aiff",
    "w64": ".w64",
    "caf": ".caf",
    "sphere": ".sph",
    "mov": ".m4a",
    "matroska": ".webm",
    "adts": ".aac",
    "mpeg": ".mp3",
}  # kind -> extension
_OTHER = (
    (rb"\s*(?:<!doctype html|<html|<head)", "an HTML page, probably from a failed download"),
    (rb"\s*<\?xml|\s*<error>", "an XML document, probably from a failed download"),
    (rb"version https://git-lfs", "a Git LFS pointer: fetch the file itself"),
    (rb'\s*\{\s*"|\s*\[\s*[{"\[]', "JSON"),
    (rb"pk\x03\x04", "a ZIP archive"),
    (rb"\x1f\x8b\x08", "gzip data"),
    (rb"%pdf", "a PDF"),
    (rb"\xff\xd8\xff|\x89png|gif8", "a picture"),
)
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e]*")


def look(file: BinaryIO) -> tuple[bytes, str]:
    """The first bytes, and the container (see ``kind``) of what follows any ID3v2 tags."""
    head = file.read(HEAD)
    if not head.startswith(b"ID3"):
        return head, kind(head)
    file.seek(audio_start(file))
    return head, kind(file.read(HEAD)) or "mpeg"


def kind(head: bytes) -> str:
    """The container, by the names above, ``adts`` (AAC), ``mpeg`` (layers I to III) or ""."""
    for offset, magic, name in _MEDIA:
        if head[offset : offset + len(magic)] == magic:
            return name
    if len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0:
        return "adts" if head[1] & 0xF6 == 0xF0 else "mpeg"  # AAC has the layer bits 00, which MPEG audio never has
    return ""


def other(head: bytes) -> str:
    """What a file without audio is, in words; "" if it may be audio."""
    lowered = head.lower()
    for pattern, name in _OTHER:
        if re.match(pattern, lowered):
            return name
    return "text" if head and _TEXT.fullmatch(head) else ""


def audio_start(file: BinaryIO) -> int:
    """Offset of the first byte after the ID3v2 tags at the start, of which there may be several."""
    at = 0
    while True:
        file.seek(at)
        tag = file.read(10)
        if len(tag) < 10 or not tag.startswith(b"ID3") or max(tag[6:10]) > 127:
            return at
        size = tag[6] << 21 | tag[7] << 14 | tag[8] << 7 | tag[9]
        at += 10 + size + (10 if tag[5] & 0x10 else 0)  # the last term is a footer


def cut_matroska(file: BinaryIO, size: int) -> bool:
    """Whether a Matroska file of ``size`` bytes states a segment that extends beyond its end; live streams do not."""
    at = 0
    for wanted in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):  # the EBML header, then the segment
        file.seek(at)
        head = file.read(12)
        if len(head) < 12 or head[:4] != wanted or not head[4]:
            return False
        width = 9 - head[4].bit_length()  # of the length, told by its first set bit
        largest = (1 << 7 * width) - 1
        length = int.from_bytes(head[4 : 4 + width]) & largest
        if length == largest:  # not known
            return False
        at += 4 + width + length
    return at > size
