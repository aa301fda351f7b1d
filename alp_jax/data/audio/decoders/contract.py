"""What the decoders have in common: limits, blocks of samples, and why a file gives none."""

import contextlib
import dataclasses
import io
import pathlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

REASONS = {
    "missing": "no such file, or no audio in the record",
    "unreadable": "the file is there and may not or cannot be read",
    "not_a_file": "a folder, pipe or device",
    "empty": "a file of zero bytes",
    "not_audio": "no known audio format inside",
    "no_channel": "a channel that the file does not have",
    "unsupported": "a container or encoding outside the allow-list, or too many channels",
    "corrupt": "cut short or undecodable",
    "bad_rate": "a sample rate outside 4 to 384 kHz",
    "bad_scale": "float samples beyond the range of 32-bit integers",
    "zero_length": "audio without samples, or a start beyond the end of the file",
    "too_short": "shorter than min_seconds",
    "too_long": "longer than max_seconds",
    "too_large": "more bytes than the limit for one file",
    "too_many_samples": "more samples over all channels than one clip may have, 2^28",
    "non_finite": "NaN or infinity among the samples",
    "silent": "nothing above -80 dBFS, or nothing but a constant",
    "decoder_crashed": "the decoder process died or ran out of memory",
    "decoder_timeout": "the decoder did not finish in time",
}
NOTES = {
    "channels_cancel": "their mean keeps less than a tenth of the power of unrelated channels: the loudest was taken",
    "rescaled": "samples far above full scale, as integers stored as floats: divided by 2^15, 2^23, 2^31 or the peak",
    "wrong_header": "the header states another length: what can be decoded counts",
    "longer_than_stated": "the file is longer than its row states, by more than 1 s and 10 %",
    "shorter_than_stated": "the file is shorter than its row states, by more than 1 s and 10 %",
}
MAX_CHANNELS = 16
MIN_RATE, MAX_RATE = 4_000, 384_000
MAX_SAMPLES = 1 << 28  # of one clip, over all channels: 10 minutes of 7.1 at 48 kHz, or of stereo at 192 kHz
BLOCK = 65_536  # frames that are decoded at a time

Source = pathlib.Path | bytes  # a file, or what was in it


class BadAudio(Exception):
    """A file that cannot become a clip; ``reason`` is a key of REASONS, ``detail`` what is wrong with this one."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a clip may be: seconds of the decoded stretch and bytes of its file."""

    min_seconds: float = 0.1
    max_seconds: float = 600.0
    max_bytes: int = 2 << 30


class Stretch(NamedTuple):
    """What is wanted of a file; ``duration_s`` None: all to its end."""

    start_s: float
    duration_s: float | None

    @property
    def end_s(self) -> float:
        return float("inf") if self.duration_s is None else self.start_s + self.duration_s

    def frames(self, rate: int) -> tuple[int, int | None]:
        """(first frame, how many or None)."""
        return round(self.start_s * rate), None if self.duration_s is None else round(self.duration_s * rate)


class Block(NamedTuple):
    """``samples`` float32[n, C] at ``rate`` Hz, full scale 1."""

    rate: int
    samples: np.ndarray


Blocks = Iterator[Block]


def opened(source: Source) -> contextlib.AbstractContextManager[BinaryIO]:
    return contextlib.nullcontext(io.BytesIO(source)) if isinstance(source, bytes) else open(source, "rb")


def check_form(rate: int, channels: int) -> None:
    """Raises BadAudio for a rate or a number of channels that no recording has."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise BadAudio("bad_rate", f"{rate} Hz")
    if not 1 <= channels <= MAX_CHANNELS:
        raise BadAudio("unsupported", f"{channels} channels")


def starts_beyond(start_s: float, seconds: float) -> BadAudio:
    return BadAudio("zero_length", f"starts at {start_s:g} s of {seconds:.2f} s")
