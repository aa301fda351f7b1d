"""Audio files made up for tests: good ones in every format, and ones whose headers are wrong."""

import fractions
import io
import struct

import av
import numpy as np
import soundfile

RATE = 16_000


def tone(seconds, hz=440.0, rate=RATE, peak=0.3):
    return (peak * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def two_tones(rate=RATE):
    """3 s of 440 Hz, then 3 s of 1000 Hz."""
    return np.concatenate([tone(3, 440, rate), tone(3, 1000, rate)])


def coded(sound, rate=RATE, form="WAV", subtype=None, **options):
    """A file as libsndfile writes it."""
    buffer, channels = io.BytesIO(), 1 if sound.ndim == 1 else sound.shape[1]
    with soundfile.SoundFile(buffer, "w", rate, channels, subtype, format=form, **options) as file:
        for first in range(0, len(sound), 4096):  # libsndfile's Vorbis writer overflows its stack on long buffers
            file.write(sound[first : first + 4096])
    return buffer.getvalue()


def muxed(sound, form, codec, rate=RATE, options=None, title="", streams=1):
    """A file as FFmpeg writes it, the same ``sound`` float32[n] in each stream."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=form, options={"fflags": "bitexact"} | (options or {})) as container:
        container.metadata["title"] = title
        made = [container.add_stream(codec, rate=rate, layout="mono") for _ in range(streams)]
        frame = av.AudioFrame.from_ndarray(np.rint(sound * 32767).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, fractions.Fraction(1, rate)
        for packet in (packet for stream in made for packet in (*stream.encode(frame), *stream.encode(None))):
            if packet.size:  # FLAC's encoder ends with an empty one
                container.mux(packet)
    return buffer.getvalue()


def mpeg_packets(data):
    """The frames of an MP3 file without its Xing header: what an encoder writes to a pipe."""
    with av.open(io.BytesIO(data)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def vbr_mp3(sound, rate=44_100):
    """Variable bit rate with a Xing header; a second of noise in front, which takes most of the bytes."""
    return coded(sound, rate, "MP3", "MPEG_LAYER_III", bitrate_mode="VARIABLE", compression_level=0.3)


def with_xing_frames(data, factor):
    """An MP3 file whose Xing header states ``factor`` times its frames."""
    at = max(data.find(b"Xing"), data.find(b"Info")) + 8
    (frames,) = struct.unpack(">I", data[at : at + 4])
    return data[:at] + struct.pack(">I", round(frames * factor)) + data[at + 4 :]


def id3(size=0, seed=0):
    """An ID3v2 tag, with a cover picture of ``size`` random bytes."""
    picture = b"\0image/jpeg\0\x03\0\xff\xd8\xff" + np.random.default_rng(seed).bytes(size)
    frame = b"APIC" + struct.pack(">I", len(picture)) + b"\0\0" + picture
    return b"ID3\x03\0\0" + bytes(len(frame) >> shift & 127 for shift in (21, 14, 7, 0)) + frame


def chunk(name, data, size=None):
    return name + struct.pack("<I", len(data) if size is None else size) + data + b"\0" * (len(data) % 2)


def wav(*chunks, size=None, name=b"RIFF"):
    body = b"WAVE" + b"".join(chunks)
    return name + struct.pack("<I", len(body) if size is None else size) + body


def form(rate=RATE, channels=1, tag=1, size=2):
    return chunk(
        b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * channels * size, channels * size, 8 * size)
    )


def pcm(sound):
    return np.rint(sound * 32767).astype("<i2").tobytes()


def trimmed(data, start, duration_ms):
    """An MP4 file whose edit list leaves out all but ``duration_ms`` from sample ``start``: a trim without a loss."""
    edit = struct.pack(">IIi", 1, duration_ms, start)
    return patched(data, b"elst", edit, offset=4)


def with_flac_samples(data, count):
    """A FLAC file whose header states ``count`` samples."""
    return data[:21] + bytes([data[21] & 0xF0 | count >> 32]) + struct.pack(">I", count & 0xFFFFFFFF) + data[26:]


def patched(data, after, value, offset=0):
    """``data`` with ``value`` in place of the bytes ``offset`` behind the first ``after``."""
    at = data.index(after) + len(after) + offset
    return data[:at] + value + data[at + len(value) :]
