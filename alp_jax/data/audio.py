"""Decodes untrusted audio files to int16 at 16 kHz mono, or says in one word why it cannot.

Containers and encodings are on an allow-list, and seconds, channels, rate and bytes have limits that are checked before
anything large is allocated. Run it in a worker process (``worker.py``): decoders are C code and files may be hostile.
"""

import contextlib
import dataclasses
import io
import math
import os
import pathlib
import re
from typing import BinaryIO

import G722
import numpy as np
import soundfile
import soxr

from alp_jax.core import storage
from alp_jax.core.clip import AUDIO_EXTENSIONS
from alp_jax.data.example import SAMPLE_RATE

REASONS = {
    "missing": "no such file",
    "empty": "a file of zero bytes",
    "not_audio": "no known audio format inside",
    "no_channel": "a channel that the file does not have",
    "unsupported": "a container or encoding outside the allow-list, or too many channels",
    "corrupt": "cut short or undecodable",
    "bad_rate": "a sample rate outside 4 to 384 kHz",
    "zero_length": "audio without samples, or a start beyond the end of the file",
    "too_short": "shorter than min_seconds",
    "too_long": "longer than max_seconds",
    "too_large": "more bytes than the limit for one file",
    "non_finite": "NaN or infinity among the samples",
    "silent": "peak below -80 dBFS",
    "decoder_crashed": "the decoder process died or ran out of memory",
    "decoder_timeout": "the decoder did not finish in time",
}
CONTAINERS = {"WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3", "AIFF", "AU"}
ENCODINGS = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}
ENCODINGS |= {"VORBIS", "OPUS", "MPEG_LAYER_III", "MPEG_LAYER_II"}
MAX_CHANNELS = 16
MIN_RATE, MAX_RATE = 4_000, 384_000
SILENCE = 1e-4  # peak, full scale 1
_CHUNK = 65_536  # frames decoded at a time
_GSM_BYTES, _GSM_MAGIC, _GSM_RATE = 33, 0xD, 8_000
_G722_BYTES_PER_S = 8_000
_MAGIC = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM", b".snd", b"ID3")
_UNKNOWN_FORMAT, _INCOMPLETE_INFO = 1, 24  # libsndfile error codes; 24 is a sample rate or channel count of 0
_DECLARED = re.compile(r"(?:data|SSND|Data Size)\s*:\s*(\d+) \(should be (\d+)\)")
_STREAMED = 0x7FFF0000  # writers that do not know the length declare about this much or more


Source = pathlib.Path | bytes  # a file, or what was in it


class BadAudio(Exception):
    """A file that cannot become a clip; ``reason`` is a key of REASONS."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a clip may be: seconds of the decoded stretch and bytes of its file."""

    min_seconds: float = 0.1
    max_seconds: float = 600.0
    max_bytes: int = 2 << 30


def load(
    path: str,
    start_s: float,
    duration_s: float | None,
    limits: Limits,
    member: str = "",
    channel: int | None = None,
) -> np.ndarray:
    """The stretch of ``path`` from ``start_s`` that lasts ``duration_s`` (None: to the end) as int16[n], 16 kHz mono.

    A stretch that reaches over the end of the file ends there. ``path`` may be a URL, and with ``member`` a container
    of audio files (``containers.read_member``); both are read into memory first. ``channel``, from 0, is the one that
    is taken; None mixes all of them down.

    Raises:
      BadAudio: with the reason; nothing is ever repaired or replaced.
    """
    source, extension, size = _encoded(path, member, limits)
    if extension not in AUDIO_EXTENSIONS:
        raise BadAudio("unsupported", f"extension {extension!r}")
    if size == 0:
        raise BadAudio("empty")
    if size > limits.max_bytes:
        raise BadAudio("too_large", f"{size} bytes")
    if duration_s is not None and duration_s > limits.max_seconds:
        raise BadAudio("too_long", f"{duration_s:g} s")
    try:
        sound, rate = _decode(source, extension, size, start_s, duration_s, limits, channel)
    except soundfile.LibsndfileError as error:
        reason = {_UNKNOWN_FORMAT: "not_audio", _INCOMPLETE_INFO: "bad_rate"}.get(error.code, "corrupt")
        if not _looks_like_audio(source):  # libsndfile believes the name of an .mp3
            reason = "not_audio"
        raise BadAudio(reason, str(error)) from None
    return _finish(sound, rate, limits)


def _encoded(path: str, member: str, limits: Limits) -> tuple[Source, str, int]:
    """What to decode, its extension in lower case, and its bytes."""
    if member:
        from alp_jax.data import containers  # which raises BadAudio itself

        data, extension = containers.read_member(path, member, limits.max_bytes)
        return data, extension.lower(), len(data)
    extension = os.path.splitext(path)[1].lower()
    try:
        if storage.is_remote(path):
            size = storage.size(path)
            if size < 0:
                raise BadAudio("missing", "no such object")
            return (storage.read(path) if size <= limits.max_bytes else b""), extension, size
        file = storage.local(path)
        size = os.stat(file).st_size
        if not file.is_file():
            raise BadAudio("missing", "not a regular file")
        with open(file, "rb"):  # libsndfile does not say that it may not
            pass
    except OSError as error:
        raise BadAudio("missing", error.strerror or str(error)) from None
    return file, extension, size


def _open(source: Source) -> contextlib.AbstractContextManager[BinaryIO]:
    return contextlib.nullcontext(io.BytesIO(source)) if isinstance(source, bytes) else open(source, "rb")


def _looks_like_audio(source: Source) -> bool:
    with _open(source) as file:
        head = file.read(4)
    return head.startswith(_MAGIC) or (
        len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0
    )  # the latter is an MPEG frame


def _finish(sound: np.ndarray, rate: int, limits: Limits) -> np.ndarray:
    """Checks float32[n] at ``rate`` Hz and resamples it to int16 at 16 kHz with soxr's HQ filter."""
    if not len(sound):
        raise BadAudio("zero_length")
    if not np.isfinite(sound).all():
        raise BadAudio("non_finite")
    if np.abs(sound).max() < SILENCE:
        raise BadAudio("silent")
    if rate != SAMPLE_RATE:
        sound = soxr.resample(sound, rate, SAMPLE_RATE, quality="HQ")
    if len(sound) < limits.min_seconds * SAMPLE_RATE:
        raise BadAudio("too_short", f"{len(sound) / SAMPLE_RATE:.3f} s")
    return np.clip(np.rint(sound * 32768.0), -32768, 32767).astype(np.int16)


@dataclasses.dataclass(frozen=True)
class Measures:
    """``clipped`` is the share of samples at full scale; ``level_db`` the mean power, full scale 0 dB."""

    clipped: float
    level_db: float


def measure(sound: np.ndarray) -> Measures:
    """Measures int16[n], n > 0, that is not silent."""
    power = np.square(sound, dtype=np.float64).mean() / 32768.0**2
    full = np.count_nonzero((sound == 32767) | (sound == -32768))
    return Measures(full / len(sound), 10 * math.log10(power))


def _decode(source: Source, extension, size, start_s, duration_s, limits, channel) -> tuple[np.ndarray, int]:
    if extension == ".g722":
        _check_channel(channel, 1)
        if size / _G722_BYTES_PER_S > start_s + limits.max_seconds and duration_s is None:
            raise BadAudio("too_long", f"{size / _G722_BYTES_PER_S:.0f} s")
        with _open(source) as file:
            whole = np.array(G722.G722(SAMPLE_RATE, 64_000).decode(file.read()), np.float32) / 32768.0
        first = round(start_s * SAMPLE_RATE)
        last = None if duration_s is None else first + round(duration_s * SAMPLE_RATE)
        return whole[first:last], SAMPLE_RATE
    raw = {}
    if extension == ".gsm":
        _check_gsm(source, size)
        raw = {"format": "RAW", "subtype": "GSM610", "samplerate": _GSM_RATE, "channels": 1}
    with soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source, **raw) as file:
        if not raw:
            _check_header(file, source, size)
        _check_channel(channel, file.channels)
        return _read(file, start_s, duration_s, limits, channel), file.samplerate


def _check_channel(channel: int | None, channels: int) -> None:
    if channel is not None and not 0 <= channel < channels:
        raise BadAudio("no_channel", f"channel {channel} of {channels}, counted from 0")


def _check_gsm(source: Source, size: int) -> None:
    """GSM 06.10 has no header, but every frame of 33 bytes starts with the same four bits."""
    with _open(source) as file:
        first = np.frombuffer(file.read(), np.uint8)[::_GSM_BYTES]
    if (first[:1] >> 4 != _GSM_MAGIC).any():
        raise BadAudio("not_audio", "no GSM frame at the start")
    if size % _GSM_BYTES or (first >> 4 != _GSM_MAGIC).any():
        raise BadAudio("corrupt", "not a whole number of GSM frames")


def _check_header(file: soundfile.SoundFile, source: Source, size: int) -> None:
    if file.format not in CONTAINERS or file.subtype not in ENCODINGS:
        raise BadAudio("unsupported", f"{file.format} {file.subtype}")
    if not MIN_RATE <= file.samplerate <= MAX_RATE:
        raise BadAudio("bad_rate", f"{file.samplerate} Hz")
    if not 1 <= file.channels <= MAX_CHANNELS:
        raise BadAudio("unsupported", f"{file.channels} channels")
    # libsndfile shortens a cut file in silence and only tells its log
    for declared, actual in _DECLARED.findall(file.extra_info):
        if int(actual) < int(declared) < _STREAMED:
            raise BadAudio("corrupt", f"{actual} of {declared} bytes of audio are there")
    if file.format == "OGG":
        _check_last_page(source, size)


def _check_last_page(source: Source, size: int) -> None:
    """The last Ogg page must end within the file (RFC 3533, section 6: 27 bytes, segment table, segments)."""
    with _open(source) as file:
        file.seek(max(0, size - 131_072))  # two pages at their largest
        tail = file.read()
    start = tail.rfind(b"OggS")
    segments = tail[start + 26] if 0 <= start < len(tail) - 26 else 255
    table = tail[start + 27 : start + 27 + segments]
    if start < 0 or len(table) < segments or start + 27 + segments + sum(table) > len(tail):
        raise BadAudio("corrupt", "the last Ogg page is cut off")


def _read(file: soundfile.SoundFile, start_s: float, duration_s: float | None, limits: Limits, channel: int | None):
    """Decodes chunk by chunk to float32[n] at the file's rate: one channel, or all of them mixed down (None)."""
    rate, first = file.samplerate, round(start_s * file.samplerate)
    if first >= file.frames:
        raise BadAudio("zero_length", f"starts at {start_s:g} s of {file.frames / rate:.2f} s")
    want = file.frames - first
    if duration_s is not None:
        want = min(want, round(duration_s * rate))
    if want > limits.max_seconds * rate:
        raise BadAudio("too_long", f"{want / rate:.0f} s")
    if file.seekable():
        file.seek(first)
    else:  # GSM: at most a few minutes of telephone speech
        file.read(first, dtype="float32")
    chunks, have = [], 0
    while have < want:
        chunk = file.read(min(_CHUNK, want - have), dtype="float32", always_2d=True)
        if not len(chunk):
            break
        have += len(chunk)
        if channel is not None:
            chunks.append(chunk[:, channel].copy())
            continue
        mono = chunk[:, 0]
        for channel in range(1, file.channels):  # column by column: ten times faster than a mean over the short axis
            mono = mono + chunk[:, channel]
        chunks.append(mono / np.float32(file.channels) if file.channels > 1 else mono)
    # MP3 headers may only estimate the length
    slack = max(4 * 1152, want // 50) if file.format == "MP3" else 0
    if want - have > slack:
        raise BadAudio("corrupt", f"{have} of {want} frames could be decoded")
    return np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
