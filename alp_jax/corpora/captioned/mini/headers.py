"""Length and format of an audio file from its header, without decoding it."""

import pathlib

import soundfile

_G722_BYTES_PER_S = 8000
_UNKNOWN = 1 << 40  # from this many frames on, a header does not state the length
_GSM_FRAME_BYTES, _GSM_FRAME_S = 33, 0.02


def probe(path: pathlib.Path) -> tuple[float, int, int] | None:
    """(seconds, sample rate, channels), or None when the file cannot be read or its header does not state its length.

    Raw G.722 is 64 kbit/s at 16 kHz, raw GSM 06.10 is 33 bytes per 20 ms at 8 kHz; both have no header.
    """
    suffix, size = path.suffix.lower(), path.stat().st_size
    if suffix == ".g722":
        return size / _G722_BYTES_PER_S, 16000, 1
    if suffix == ".gsm":
        return size // _GSM_FRAME_BYTES * _GSM_FRAME_S, 8000, 1
    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError):
        return None
    if info.frames >= _UNKNOWN:
        return None
    return info.frames / info.samplerate, info.samplerate, info.channels


def track_tags(path: pathlib.Path) -> dict[str, str]:
    """Title, artist, genre and similar tags of the file; empty for raw formats and unreadable files."""
    if path.suffix.lower() in (".g722", ".gsm"):
        return {}
    try:
        with soundfile.SoundFile(str(path)) as file:
            return {key: value.strip() for key, value in file.copy_metadata().items() if value.strip()}
    except (soundfile.LibsndfileError, OSError):
        return {}
