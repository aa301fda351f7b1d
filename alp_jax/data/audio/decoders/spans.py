"""Several parts of a file as one file, for audio whose header is wrong about where it lies."""

import bisect
import io
import itertools
from collections.abc import Sequence
from typing import BinaryIO


class SpanFile(io.RawIOBase):
    """A seekable, readable file made of spans of ``file``: (offset, length), or bytes that replace a part."""

    def __init__(self, file: BinaryIO, spans: Sequence[tuple[int, int] | bytes]):
        super().__init__()
        self._file, self._spans = file, list(spans)
        lengths = [len(span) if isinstance(span, bytes) else span[1] for span in self._spans]
        self._starts = [0, *itertools.accumulate(lengths)]
        self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position, in bytes of the spans put together."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to a position in bytes of the spans put together, which may lie beyond their end, and returns it.

        Raises:
          ValueError: the position is negative.
        """
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._starts[-1]}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}")
        self._at = base + offset
        return self._at

    def readinto(self, buffer) -> int:
        """Fills ``buffer`` across spans; returns how many bytes, fewer at the end or where ``file`` is cut short."""
        view, done = memoryview(buffer).cast("B"), 0
        while done < len(view) and self._at < self._starts[-1]:
            number = bisect.bisect_right(self._starts, self._at) - 1
            span, inside = self._spans[number], self._at - self._starts[number]
            count = min(len(view) - done, self._starts[number + 1] - self._at)
            if isinstance(span, bytes):
                data = span[inside : inside + count]
            else:
                self._file.seek(span[0] + inside)
                data = self._file.read(count)
            if not data:
                break
            view[done : done + len(data)] = data
            done, self._at = done + len(data), self._at + len(data)
        return done
