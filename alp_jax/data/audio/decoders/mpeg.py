"""The Xing header of an MP3 file: how many frames and bytes its encoder wrote, if stated."""

import re
from typing import NamedTuple

from alp_jax.data.audio.decoders import sniff
from alp_jax.data.audio.decoders.contract import Source, opened

_FRAMES, _BYTES = 1, 2  # flags that say which numbers follow
# The first frame: its header, an optional checksum, side information (sized by version and channels), and the tag
_TAG = re.compile(rb"\xff[\xe2-\xff]..(?:..)?(?:.{9}|.{17}|.{32})((?:Xing|Info)...(.)(.{4})(.{4}))", re.DOTALL)
_TO_FRAMES = 8  # bytes from the tag to its number of frames


class Xing(NamedTuple):
    """What the header says.

    Attributes:
      start: offset of its frame in the file.
      tag: offset of the tag.
      frames: how many the file should have; 0 if not stated.
      whole: whether the file has as many bytes as stated; False if not stated.
    """

    start: int
    tag: int
    frames: int
    whole: bool

    def spans(self, size: int, frames: int | None = None) -> tuple[tuple[int, int] | bytes, ...]:
        """The MPEG part of a file of ``size`` bytes, with ``frames``, if given, in place of the header's count."""
        if frames is None:
            return ((self.start, size - self.start),)
        at = self.tag + _TO_FRAMES
        return (self.start, at - self.start), frames.to_bytes(4), (at + 4, size - at - 4)


def xing(source: Source, size: int) -> Xing | None:
    """The header at the start of the audio; None when there is none."""
    with opened(source) as file:
        start = sniff.audio_start(file)
        file.seek(start)
        head = file.read(sniff.HEAD)
    tag = _TAG.search(head)
    if not tag:
        return None
    flags, numbers = tag[2][0], [int.from_bytes(tag[3]), int.from_bytes(tag[4])]
    frames = numbers.pop(0) if flags & _FRAMES else 0
    stated = numbers.pop(0) if flags & _BYTES else None
    there = size - start - tag.start()
    whole = stated is not None and stated <= there
    return Xing(start + tag.start(), start + tag.start(1), frames, whole)
