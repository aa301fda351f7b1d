"""FFmpeg, through PyAV: the second decoder, for what libsndfile cannot read or whose length it does not know.

Files are read through Python file objects, so that no path or URL inside a file is ever opened; containers and codecs
are on allow-lists. The containers here are those that downloads come in; Windows Media, Real, AMR, AC-3, DTS and
the many others that FFmpeg knows are refused by name, because each is more C code that reads hostile bytes.
"""

import contextlib
import io
from collections.abc import Iterator
from typing import NamedTuple

import av
import numpy as np

from alp_jax.data.audio.decoders.contract import (
    BLOCK,
    Block,
    Blocks,
    Source,
    Stretch,
    check_form,
    opened,
    starts_beyond,
)
from alp_jax.data.audio.decoders.spans import SpanFile
from alp_jax.data.audio.errors import BadAudio

VERSION = av.__version__
DEMUXERS = "mov,matroska,webm,mp3,aac,ogg,flac,caf,wav"
DECODERS = "aac,alac,flac,mp3,mp3float,mp2,mp2float,opus,vorbis"  # and pcm_*
_SHARE_BROKEN = 0.05  # of the packets: a file with more undecodable ones is corrupt
_SLACK_S, _SLACK = 0.5, 0.02  # by how much a container may overstate its length: the larger of seconds and a share
_EDGE_S = 0.05  # the same for a file with bytes missing
_COUNTED = ("mp3", "mp3float", "aac", "alac", "opus")  # codecs whose packets hold as many samples as they state
_LEAD, _PREROLL_S = 8, 1.0  # packets at the start, and seconds before a stretch, that are always decoded
_OUTSIDE = "a container outside the allow-list; convert it: ffmpeg -i FILE FILE.flac"
_SCALE = {"i2": 2.0**15, "i4": 2.0**31, "u1": 2.0**7}


class Hint(NamedTuple):
    """What is known about a file besides its bytes.

    Attributes:
      form: the container, where FFmpeg would not recognise it; "" lets FFmpeg tell.
      frames: count in the file's own header; fewer are an error unless the stream is intact up to its end.
      spans: the parts of the file to read, see ``SpanFile``; () is all of it.
      cut: whether bytes are missing at the end of the file.
    """

    form: str = ""
    frames: int = 0
    spans: tuple = ()
    cut: bool = False


_NO_HINT = Hint()


class Count(NamedTuple):
    """Packets that are not empty, samples per channel, and the seconds that the packets claim to last."""

    packets: int
    samples: int
    seconds: float


def count(source: Source, hint: Hint = _NO_HINT) -> Count | None:
    """Counts the packets and samples of a file without decoding; None if FFmpeg finds no audio that it may decode."""
    try:
        with _open(source, hint) as (container, stream):
            ticks = packets = 0
            with contextlib.suppress(av.error.InvalidDataError, av.error.EOFError):
                for packet in container.demux(stream):
                    if packet.size:
                        packets += 1
                        ticks += packet.duration or 0
            seconds = ticks * stream.time_base
            return Count(packets, round(seconds * stream.codec_context.sample_rate), float(seconds))
    except BadAudio:
        return None


def blocks(source: Source, stretch: Stretch, hint: Hint = _NO_HINT) -> Blocks:
    """The stretch, found by counting samples from the start of the file.

    Raises:
      BadAudio: ``not_audio``, ``unsupported``, ``bad_rate``, ``corrupt`` or ``zero_length``.
    """
    with _open(source, hint) as (container, stream):
        reading = _Reading(container, stream, hint, stretch.start_s)
        passed_s = 0.0
        for rate, samples in _gathered(reading.arrays()):
            check_form(rate, samples.shape[1])
            passed = round(passed_s * rate)
            first, want = stretch.frames(rate)
            last = passed + len(samples) if want is None else first + want
            wanted = samples[max(0, first - passed) : max(0, last - passed)]
            passed_s += len(samples) / rate
            if len(wanted):
                yield Block(rate, wanted)
            if want is not None and passed + len(samples) >= last:
                return
        reading.check(passed_s)
        if passed_s <= stretch.start_s:
            raise starts_beyond(stretch.start_s, passed_s) if passed_s else reading.nothing()


@contextlib.contextmanager
def _open(source: Source, hint: Hint) -> Iterator[tuple]:
    """The open container and its audio stream; any error of FFmpeg's becomes a BadAudio."""
    options = {"format_whitelist": DEMUXERS, "codec_whitelist": DECODERS}
    with opened(source) as file, contextlib.ExitStack() as stack:
        data = io.BufferedReader(SpanFile(file, hint.spans)) if hint.spans else file
        try:
            container = stack.enter_context(
                av.open(data, format=hint.form or None, container_options=options, metadata_errors="replace")
            )
            if not container.streams.audio:
                raise BadAudio("not_audio", f"{container.format.long_name} without an audio track")
            stream = container.streams.audio[0]
            codec = stream.codec_context
            name = codec.name if codec else "an unknown encoding"
            if name not in DECODERS.split(",") and not name.startswith("pcm_"):
                raise BadAudio("unsupported", f"{container.format.name} {name}; convert it: ffmpeg -i FILE FILE.flac")
            codec.thread_count = 1
            yield container, stream
        except MemoryError:
            raise
        except av.error.ArgumentError:  # raised for a format outside the allow-list
            raise BadAudio("unsupported", _OUTSIDE) from None
        except av.error.InvalidDataError as error:
            raise BadAudio("corrupt", error.strerror or str(error)) from None
        except (av.error.FFmpegError, ValueError, OverflowError, ZeroDivisionError) as error:
            raise BadAudio("corrupt", f"{type(error).__name__}: {error}") from None


class _Reading:
    """Decodes a stream and keeps track of how it ended.

    Well before ``start_s``, packets that state their length are counted instead of decoded.
    """

    def __init__(self, container, stream, hint: Hint, start_s: float):
        self._container, self._stream, self._hint = container, stream, hint
        # Matroska states times in whole milliseconds, too coarse to count samples by, except that Opus frames fit them
        exact = stream.codec_context.name == "opus" or not container.format.name.startswith("matroska")
        counted = exact and stream.codec_context.name in _COUNTED
        self._decode_from_s = start_s - _PREROLL_S if counted else 0.0
        self._packets = self._broken = 0
        self._clean = True  # whether the last packet was a good one
        self._end = 0  # where it ends, by its own time

    def arrays(self) -> Blocks:
        """The samples of every frame, without what the container says is padding at the end.

        Blocks beyond the stated length are held back: if more follows than padding could explain, the stated length is
        wrong, and they are yielded after all.
        """
        stated, padding = self._stated_frames(), 2 * max(self._stream.codec_context.frame_size, 1024)
        have, held = 0, []
        for block in self._blocks():
            have += len(block.samples)
            if not stated or have <= stated or have > stated + padding:
                yield from held
                held = []
                yield block
                continue
            kept = len(block.samples) - (have - stated)
            if kept > 0:
                yield block._replace(samples=block.samples[:kept])
                block = block._replace(samples=block.samples[kept:])
            held.append(block)

    def _stated_frames(self) -> int:
        """Samples by the edit list of an MP4 file, exact although the codec pads its last frame; 0: not stated."""
        if not self._container.format.name.startswith("mov") or not self._stream.duration:
            return 0
        return round(self._stream.duration * self._stream.time_base * self._stream.codec_context.sample_rate)

    def _blocks(self) -> Blocks:
        """The samples of every packet; zeros for packets not decoded, so that counting still finds the stretch."""
        packets, passed_s, last = self._container.demux(self._stream), 0.0, None
        while True:
            try:
                packet = next(packets, None)
            except (av.error.InvalidDataError, av.error.EOFError, av.error.OSError):
                self._clean = False
                return
            if packet is None:
                return
            self._packets += packet.size > 0
            if packet.pts is not None:
                self._end = packet.pts + (packet.duration or 0)
            length_s = float((packet.duration or 0) * packet.time_base) if self._decode_from_s > 0 else 0.0
            if last and self._packets > _LEAD and 0 < length_s < self._decode_from_s - passed_s:
                last = last._replace(samples=np.zeros((round(length_s * last.rate), last.samples.shape[1]), np.float32))
                passed_s += len(last.samples) / last.rate
                yield last
                continue
            try:
                for frame in packet.decode():
                    last = Block(frame.sample_rate, _samples(frame))
                    passed_s += len(last.samples) / last.rate
                    yield last
                self._clean = self._clean if not packet.size else True
            except MemoryError:
                raise
            except av.error.FFmpegError:
                self._broken += packet.size > 0
                self._clean = False

    def nothing(self) -> BadAudio:
        """Why no sample came."""
        return BadAudio("corrupt", "no sample could be decoded") if self._packets else BadAudio("zero_length")

    def check(self, seconds: float) -> None:
        """Raises BadAudio when what was decoded, ``seconds``, is not the whole file."""
        if self._broken > 1 and self._broken > _SHARE_BROKEN * self._packets:
            raise BadAudio("corrupt", f"{self._broken} of {self._packets} packets cannot be decoded")
        rate = self._stream.codec_context.sample_rate
        stated = self._hint.frames / rate
        whole = self._clean and not self._broken and round((self._end * self._stream.time_base - seconds) * rate) <= 0
        if seconds < stated and not whole:
            raise BadAudio("corrupt", f"{seconds:.2f} of {stated:.2f} s could be decoded")
        name = self._container.format.name
        # the index, unlike the file's count, omits the packets that an edit list leaves out
        if name.startswith("mov") and (self._packets < len(self._stream.index_entries) or not self._clean):
            raise BadAudio("corrupt", f"cut short after {self._packets} packets")
        if name.startswith("matroska"):
            self._check_matroska(seconds)

    def _check_matroska(self, seconds: float) -> None:
        """The stated duration is that of the longest stream; live streams state none."""
        stated, cut = (self._container.duration or 0) / av.time_base, self._hint.cut
        short = seconds < stated - (_EDGE_S if cut else max(_SLACK_S, _SLACK * stated))
        if cut and (short or not stated):
            raise BadAudio("corrupt", f"cut short after {seconds:.2f} s")
        if short and len(self._container.streams) == 1:
            raise BadAudio("corrupt", f"{seconds:.2f} of {stated:.2f} s could be decoded")


def _samples(frame: av.AudioFrame) -> np.ndarray:
    """float32[n, C], full scale 1."""
    array = frame.to_ndarray()
    samples = array.T if frame.format.is_planar else array.reshape(frame.samples, -1)
    kind = samples.dtype.str[1:]
    if kind not in _SCALE:
        return samples.astype(np.float32, copy=False)
    return (samples.astype(np.float32) - np.float32(128 if kind == "u1" else 0)) / np.float32(_SCALE[kind])


def _gathered(blocks: Blocks) -> Blocks:
    """Joins small blocks into blocks of about BLOCK frames."""
    waiting: list[np.ndarray] = []
    form, frames = None, 0
    for rate, samples in blocks:
        if waiting and (form != (rate, samples.shape[1]) or frames >= BLOCK):
            yield Block(form[0], np.concatenate(waiting))
            waiting, frames = [], 0
        form = (rate, samples.shape[1])
        waiting.append(samples)
        frames += len(samples)
    if waiting:
        yield Block(form[0], np.concatenate(waiting))
