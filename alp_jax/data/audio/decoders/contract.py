"""What the decoders have in common: limits, and blocks of samples."""

import contextlib
import dataclasses
import io
import pathlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from alp_jax.data.audio.errors import BadAudio

MAX_CHANNELS = 16
MIN_RATE, MAX_RATE = 4_000, 384_000
MAX_SAMPLES = 1 << 28  # of one clip, over all channels: 10 minutes of 7.1 at 48 kHz, or of stereo at 192 kHz
BLOCK = 65_536  # frames decoded at a time

Source = pathlib.Path | bytes  # a file, or its content


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of a clip: seconds of the decoded stretch and bytes of its file."""

    min_seconds: float = 0.1
    max_seconds: float = 600.0
    max_bytes: int = 2 << 30


class Stretch(NamedTuple):
    """The part of a file to decode; ``duration_s`` None: up to its end."""

    start_s: float
    duration_s: float | None

    @property
    def end_s(self) -> float:
        """Where it ends, in seconds from the start of the file; infinite for the end of the file."""
        return float("inf") if self.duration_s is None else self.start_s + self.duration_s

    def frames(self, rate: int) -> tuple[int, int | None]:
        """(first frame, number of frames or None)."""
        return round(self.start_s * rate), None if self.duration_s is None else round(self.duration_s * rate)


class Block(NamedTuple):
    """``samples`` float32[n, C] at ``rate`` Hz, full scale 1."""

    rate: int
    samples: np.ndarray


Blocks = Iterator[Block]


def opened(source: Source) -> contextlib.AbstractContextManager[BinaryIO]:
    """A source as a binary file, whether it is bytes or a path.

    Raises:
      OSError: the path cannot be opened.
    """
    return contextlib.nullcontext(io.BytesIO(source)) if isinstance(source, bytes) else open(source, "rb")


def check_form(rate: int, channels: int) -> None:
    """Raises BadAudio for a sample rate or number of channels outside the limits."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise BadAudio("bad_rate", f"{rate} Hz")
    if not 1 <= channels <= MAX_CHANNELS:
        raise BadAudio("unsupported", f"{channels} channels")


def starts_beyond(start_s: float, seconds: float) -> BadAudio:
    """The error, to be raised, for a stretch from ``start_s`` of a file that is only ``seconds`` long."""
    return BadAudio("zero_length", f"starts at {start_s:g} s of {seconds:.2f} s")
