"""Decodes untrusted audio files to int16 at 16 kHz mono, or gives the reason why it cannot.

A header is a hint: where it states fewer or more samples than there are, the samples count. libsndfile decodes what it
reads correctly; FFmpeg takes over where libsndfile trusts a wrong length or does not know the format. Containers and
encodings are on allow-lists, and limits on seconds, channels, rate, bytes and samples are enforced while decoding. Call
it in a worker process (``pool.py``, ``data/building/worker.py``): decoders are C code and files may be hostile.
"""

import dataclasses
import errno
import math
import os

import numpy as np
import soundfile

from alp_jax.core import storage
from alp_jax.core.clip import AUDIO_EXTENSIONS
from alp_jax.data.audio.decoders import ffmpeg, mpeg, ogg, raw, riff, sndfile, sniff
from alp_jax.data.audio.decoders.contract import MAX_SAMPLES, Blocks, Limits, Source, Stretch, opened
from alp_jax.data.audio.decoders.mix import Mix
from alp_jax.data.audio.decoders.sndfile import Unreliable
from alp_jax.data.audio.errors import BadAudio

_MISSING = {errno.ENOENT, errno.ENOTDIR}
_UNKNOWN = 1 << 40  # from this many frames on, a header does not state the length
_LACKING = 4, 0.02  # frames, or share of them, that an MP3 file may lack at its end
_BY_FFMPEG = ("mov", "matroska", "adts")  # kinds that libsndfile does not know, or mistakes for MP3


@dataclasses.dataclass(frozen=True)
class Sound:
    """int16[n] at 16 kHz mono, and notes made while reading it: keys of ``errors.NOTES``."""

    samples: np.ndarray
    notes: tuple[str, ...] = ()


def load(
    path: str,
    start_s: float,
    duration_s: float | None,
    limits: Limits,
    member: str = "",
    channel: int | None = None,
) -> np.ndarray:
    """``read`` without the notes."""
    return read(path, start_s, duration_s, limits, member, channel).samples


def read(
    path: str,
    start_s: float,
    duration_s: float | None,
    limits: Limits,
    member: str = "",
    channel: int | None = None,
) -> Sound:
    """The stretch of ``path`` from ``start_s`` that lasts ``duration_s`` (None: to the end) as int16[n], 16 kHz mono.

    A stretch that goes beyond the end of the file ends there. ``path`` may be a URL and, with ``member``, a container
    of audio files (``containers.read_member``); both are read into memory first. ``channel`` picks one, counted from 0;
    None mixes all of them down to their mean or, if they cancel each other, takes the loudest.

    Raises:
      BadAudio: with the reason; a file that cannot be read is never replaced by another sound.
    """
    source, extension, size = _encoded(path, member, limits)
    if extension not in AUDIO_EXTENSIONS:
        raise BadAudio("unsupported", f"extension {extension!r}; convert it: ffmpeg -i FILE FILE.flac")
    if size == 0:
        raise BadAudio("empty")
    if size > limits.max_bytes:
        raise BadAudio("too_large", f"{size} bytes")
    if duration_s is not None and duration_s > limits.max_seconds:
        raise BadAudio("too_long", f"{duration_s:g} s")
    try:
        with opened(source) as file:
            head, kind = sniff.look(file)
    except OSError as error:
        raise BadAudio("unreadable", error.strerror or str(error)) from None
    other = "" if kind else sniff.other(head)
    if other:
        raise BadAudio("not_audio", other)
    return _Reader(source, extension, size, kind, Stretch(start_s, duration_s), limits).read(channel)


def status(path: str) -> tuple[int, str, str]:
    """(bytes of a local or remote file, "", ""), or (-1, key of REASONS, detail) if it cannot be opened."""
    if storage.is_remote(path):
        size = storage.size(path)
        return (size, "", "") if size >= 0 else (-1, "missing", "no such object")
    file = storage.local(path)
    try:
        size = os.stat(file).st_size
        if not file.is_file():
            return -1, "not_a_file", "a folder" if file.is_dir() else "neither a file nor a folder"
        if not os.access(file, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
            return -1, "unreadable", os.strerror(errno.EACCES)
    except OSError as error:
        return -1, "missing" if error.errno in _MISSING else "unreadable", error.strerror or str(error)
    except ValueError as error:  # a NUL in the name
        return -1, "missing", str(error)
    return size, "", ""


def _encoded(path: str, member: str, limits: Limits) -> tuple[Source, str, int]:
    """What to decode, its extension in lower case, and its size in bytes."""
    if member:
        from alp_jax.data.audio import containers  # imported late: plain files need not wait for its libraries

        data, extension = containers.read_member(path, member, limits.max_bytes)
        return data, extension.lower(), len(data)
    extension = os.path.splitext(path)[1].lower()
    size, reason, detail = status(path)
    if reason:
        raise BadAudio(reason, detail)
    if storage.is_remote(path):
        return (storage.read(path) if size <= limits.max_bytes else b""), extension, size
    return storage.local(path), extension, size


class _Reader:
    """Chooses the decoder for one file and mixes its blocks."""

    def __init__(self, source: Source, extension: str, size: int, kind: str, stretch: Stretch, limits: Limits):
        self._source, self._extension, self._size, self._kind = source, extension, size, kind
        self._stretch, self._limits = stretch, limits
        self._notes: list[str] = []

    def read(self, channel: int | None) -> Sound:
        try:
            return self._mixed(self._first_choice, channel)
        except (soundfile.LibsndfileError, Unreliable) as error:
            first = error
        self._notes = []  # those of the failed attempt do not hold for the next
        try:
            return self._mixed(self._by_ffmpeg, channel)
        except BadAudio as second:
            empty = str(second) == "zero_length"
            if isinstance(first, Unreliable) or not (empty or second.reason in ("corrupt", "unsupported", "not_audio")):
                raise
            if not self._kind:
                raise second if second.reason == "unsupported" else BadAudio("not_audio", first.error_string) from None
            raise BadAudio(sndfile.reason(first), first.error_string) from None

    def _mixed(self, decoder, channel: int | None) -> Sound:
        mix = Mix(self._limits, channel)
        for block in decoder():
            mix.add(block)
        loudest = mix.loudest()
        if loudest is not None:  # known only at the end, so the file is decoded again
            mix = Mix(self._limits, loudest, choose_loudest=True)
            for block in decoder():
                mix.add(block)
            self._notes.append("channels_cancel")
        samples = mix.finish()
        return Sound(samples, tuple(sorted({*self._notes, *mix.notes})))

    def _by_ffmpeg(self, hint: ffmpeg.Hint | None = None) -> Blocks:
        return ffmpeg.blocks(self._source, self._stretch, hint or ffmpeg.Hint())

    def _first_choice(self) -> Blocks:
        """The blocks of libsndfile if it counts the samples correctly, else those of a decoder that does.

        The order matters: raw codecs have no header to recognise, and libsndfile takes AAC for MP3.
        """
        if self._extension in raw.EXTENSIONS:
            self._check_length(2 * self._size / raw.G722_RATE if self._extension == ".g722" else 0.0, 0)
            return raw.blocks(self._source, self._extension, self._size, self._stretch)
        if self._kind in _BY_FFMPEG:
            with opened(self._source) as file:
                cut = self._kind == "matroska" and sniff.cut_matroska(file, self._size)
            return self._by_ffmpeg(ffmpeg.Hint(cut=cut))
        if self._kind == "mpeg" or (not self._kind and self._extension in (".mp3", ".mp2")):
            return self._mpeg()
        if self._kind in ("riff", "au", "aiff"):
            with opened(self._source) as file:
                pcm = riff.unlike_header(file, self._kind)
            if pcm:
                self._notes.append("wrong_header")
                return sndfile.pcm_blocks(self._source, pcm, self._stretch)
        return self._by_sndfile()

    def _by_sndfile(self) -> Blocks:
        with sndfile.open_file(self._source) as file:
            rate, frames = file.samplerate, file.frames
            to_the_end = self._stretch.end_s * rate > frames - 1
            if file.format == "FLAC" and (to_the_end or frames >= _UNKNOWN):
                # reads the whole file, hence only for a stretch that reaches its end
                there = ffmpeg.count(self._source)
                if there and there.samples != frames:
                    stated = frames if frames < _UNKNOWN else 0
                    if stated:
                        self._notes.append("wrong_header")
                    yield from self._by_ffmpeg(ffmpeg.Hint(frames=stated))
                    return
            if file.format == "OGG" and to_the_end:
                with opened(self._source) as pages:
                    links = ogg.links(pages)
                if len(links) > 1:
                    yield from sndfile.chained_blocks(self._source, links, self._stretch)
                    return
            self._check_length(frames / rate, frames * file.channels)
            yield from sndfile.blocks(file, self._stretch)

    def _mpeg(self) -> Blocks:
        """MPEG audio. FFmpeg trims padding by the Xing header's count of frames; a wrong count is corrected first."""
        xing = mpeg.xing(self._source, self._size)
        if xing is None or not xing.frames:
            return self._by_ffmpeg(ffmpeg.Hint("mp3"))
        hint = ffmpeg.Hint("mp3", spans=xing.spans(self._size))
        there = ffmpeg.count(self._source, hint)
        if there and (there.packets > xing.frames + 1 or (there.packets < xing.frames - 1 and xing.whole)):
            self._notes.append("wrong_header")
            return self._by_ffmpeg(hint._replace(spans=xing.spans(self._size, there.packets)))
        lacking = xing.frames - there.packets if there else 0
        if lacking > max(_LACKING[0], _LACKING[1] * xing.frames) and self._stretch.end_s > there.seconds:
            raise BadAudio("corrupt", f"only {there.packets} of {xing.frames} frames")
        return self._by_ffmpeg(hint)

    def _check_length(self, seconds: float, samples: int) -> None:
        """Raises BadAudio for a stretch known to be too long before it is decoded; ``samples`` counts all channels."""
        wanted = seconds - self._stretch.start_s
        if self._stretch.duration_s is not None:
            wanted = min(wanted, self._stretch.duration_s)
        if wanted > self._limits.max_seconds:
            raise BadAudio("too_long", f"{wanted:.0f} s")
        if seconds and samples * wanted / seconds > MAX_SAMPLES:
            raise BadAudio("too_many_samples", f"{samples * wanted / seconds:.0f}")


@dataclasses.dataclass(frozen=True)
class Measures:
    """``clipped``: share of samples at full scale; ``level_db``: mean power in dB relative to full scale."""

    clipped: float
    level_db: float


def measure_sound(sound: np.ndarray) -> Measures:
    """Measures int16[n], n > 0, that is not silent."""
    power = np.square(sound, dtype=np.float64).mean() / 32768.0**2
    full = np.count_nonzero((sound == 32767) | (sound == -32768))
    return Measures(full / len(sound), 10 * math.log10(power))
