"""libsndfile: the first decoder, exact and fast where a header can be trusted.

MP3 is left to FFmpeg: libsndfile guesses the length of a file without a Xing header and stops there. Moreover
python-soundfile seeks after every block, and libsndfile then loses what MP3 frames borrow from those before them, which
makes a glitch each time.

What it may read is an allow-list. Left out are IMA and MS ADPCM in any container (memory errors: CVE-2021-3246,
CVE-2022-33065, CVE-2026-37555), ALAC in CAF (FFmpeg decodes it), and containers of instruments, laboratories and
telephones (SDS, XI, SVX, VOC, PAF, MAT, IRCAM, WVE, HTK, PVF, AVR, SD2, MPC): nobody publishes training data in them,
and each is more C code that reads hostile bytes. Their files are refused by name; ``ffmpeg -i FILE FILE.flac`` helps.
"""

import io
import re

import soundfile

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
from alp_jax.data.audio.decoders.riff import Pcm
from alp_jax.data.audio.decoders.spans import SpanFile
from alp_jax.data.audio.errors import BadAudio

READABLE = {"WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "AIFF", "CAF", "AU", "NIST"}
ENCODINGS = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}
ENCODINGS |= {"VORBIS", "OPUS"}
_BY_FFMPEG = {"MPEG_LAYER_II", "MPEG_LAYER_III", "ALAC_16", "ALAC_20", "ALAC_24", "ALAC_32"}
_DECLARED = re.compile(r"(?:data|SSND|Data Size)\s*:\s*(\d+) \(should be (\d+)\)")
_STREAMED = 0x7FFF0000  # writers that do not know the length state about this much or more
_UNKNOWN_FORMAT, _INCOMPLETE_INFO = 1, 24  # error codes; the latter is a sample rate or channel count of 0


class Unreliable(Exception):
    """libsndfile cannot be trusted with the file: FFmpeg has to read it."""


def reason(error: soundfile.LibsndfileError) -> str:
    """The key of REASONS for an error."""
    return {_UNKNOWN_FORMAT: "not_audio", _INCOMPLETE_INFO: "bad_rate"}.get(error.code, "corrupt")


def open_file(source: Source | SpanFile) -> soundfile.SoundFile:
    """The open file, of an allowed form.

    Raises:
      BadAudio: ``unsupported``, ``bad_rate``, or ``corrupt``: the file is shorter than a size in its header.
      Unreliable: FFmpeg should decode it.
      LibsndfileError: libsndfile cannot open it.
    """
    file = soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source)
    try:
        if file.subtype in _BY_FFMPEG or (file.format == "OGG" and not file.frames):  # the latter: pages are damaged
            raise Unreliable
        if file.format not in READABLE or file.subtype not in ENCODINGS:
            raise BadAudio("unsupported", f"{file.format} {file.subtype}; convert it: ffmpeg -i FILE FILE.flac")
        check_form(file.samplerate, file.channels)
        # libsndfile silently shortens a file that is cut off and mentions it only in its log
        for declared, actual in _DECLARED.findall(file.extra_info):
            if int(actual) < int(declared) < _STREAMED:
                raise BadAudio("corrupt", f"only {actual} of {declared} bytes of audio")
    except (BadAudio, Unreliable):
        file.close()
        raise
    return file


def blocks(file: soundfile.SoundFile, stretch: Stretch) -> Blocks:
    """The stretch of an open file, ending with the file at the latest.

    Raises:
      BadAudio: ``corrupt`` or ``zero_length``.
    """
    rate = file.samplerate
    first, want = stretch.frames(rate)
    if first >= file.frames:
        raise starts_beyond(stretch.start_s, file.frames / rate)
    want = file.frames - first if want is None else min(want, file.frames - first)
    if file.seekable():
        file.seek(first)
    else:  # GSM: at most a few minutes of telephone speech
        file.read(first, dtype="float32")
    have = 0
    while have < want:
        samples = file.read(min(BLOCK, want - have), dtype="float32", always_2d=True)
        if not len(samples):
            break
        have += len(samples)
        yield Block(rate, samples)
    if have < want:
        raise BadAudio("corrupt", f"{have} of {want} frames could be decoded")


def pcm_blocks(source: Source, pcm: Pcm, stretch: Stretch) -> Blocks:
    """The stretch of a file whose samples lie elsewhere than its header says."""
    check_form(pcm.rate, pcm.channels)
    form = {"subtype": pcm.subtype, "endian": pcm.endian, "samplerate": pcm.rate, "channels": pcm.channels}
    with opened(source) as file, soundfile.SoundFile(SpanFile(file, pcm.spans), format="RAW", **form) as samples:
        yield from blocks(samples, stretch)


def chained_blocks(source: Source, links: list[tuple[int, int]], stretch: Stretch) -> Blocks:
    """The stretch of a chained file; links may differ in rate and channels."""
    passed_s = 0.0
    for link in links:
        with opened(source) as whole, open_file(SpanFile(whole, [link])) as file:
            length_s = file.frames / file.samplerate
            start_s, end_s = max(0.0, stretch.start_s - passed_s), stretch.end_s - passed_s
            passed_s += length_s
            if start_s < length_s and end_s > 0:
                yield from blocks(file, Stretch(start_s, None if end_s == float("inf") else end_s - start_s))
        if passed_s >= stretch.end_s:
            return
    if passed_s <= stretch.start_s:
        raise starts_beyond(stretch.start_s, passed_s)
