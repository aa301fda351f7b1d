"""Two telephone codecs without a header: G.722 at 64 kbit/s (``.g722``, 16 kHz) and GSM 06.10 (``.gsm``, 8 kHz)."""

import G722
import numpy as np
import soundfile

from alp_jax.data.audio.decoders import sndfile
from alp_jax.data.audio.decoders.contract import BLOCK, Block, Blocks, Source, Stretch, opened, starts_beyond
from alp_jax.data.audio.decoders.spans import SpanFile
from alp_jax.data.audio.errors import BadAudio

EXTENSIONS = frozenset({".g722", ".gsm"})
G722_RATE, _G722_BIT_RATE = 16_000, 64_000
_GSM_BYTES, _GSM_MAGIC, _GSM_RATE = 33, 0xD, 8_000


def blocks(source: Source, extension: str, size: int, stretch: Stretch) -> Blocks:
    """The stretch of a file of ``size`` bytes.

    Raises:
      BadAudio: ``not_audio`` or ``corrupt`` (GSM only), or ``zero_length``.
    """
    if extension == ".g722":
        return _g722(source, size, stretch)
    # GSM 06.10 has no header, but every frame of 33 bytes starts with the same four bits
    with opened(source) as file:
        first = np.frombuffer(file.read(), np.uint8)[::_GSM_BYTES]
    if (first[:1] >> 4 != _GSM_MAGIC).any():
        raise BadAudio("not_audio", "no GSM frame at the start")
    if size % _GSM_BYTES or (first >> 4 != _GSM_MAGIC).any():
        raise BadAudio("corrupt", "not a whole number of GSM frames")
    return _gsm(source, size, stretch)


def _gsm(source: Source, size: int, stretch: Stretch) -> Blocks:
    form = {"format": "RAW", "subtype": "GSM610", "samplerate": _GSM_RATE, "channels": 1}
    with opened(source) as file, soundfile.SoundFile(SpanFile(file, [(0, size)]), **form) as samples:
        yield from sndfile.blocks(samples, stretch)


def _g722(source: Source, size: int, stretch: Stretch) -> Blocks:
    """Decodes from the start: every sample depends on those before it."""
    first, want = stretch.frames(G722_RATE)
    last = 2 * size if want is None else min(first + want, 2 * size)  # a byte is two samples
    if first >= 2 * size:
        raise starts_beyond(stretch.start_s, 2 * size / G722_RATE)
    codec, at = G722.G722(G722_RATE, _G722_BIT_RATE), 0
    with opened(source) as file:
        while at < last:
            data = file.read(BLOCK // 2)
            if not data:
                return
            samples = np.array(codec.decode(data), np.float32) / np.float32(32768)
            wanted = samples[max(0, first - at) : last - at]
            at += len(samples)
            if len(wanted):
                yield Block(G722_RATE, wanted[:, None])
