"""A thousand damaged files of eight formats, in the children that read all files: no crash, no hang, true reasons."""

import collections
import random
import struct

import numpy as np

from alp_jax.data.audio import errors
from alp_jax.data.audio.pool import Failure, decode_files
from alp_jax.data.audio.reader import Limits
from tests.data.sounds import coded, muxed, tone

FILES = 1000
_INTERESTING = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 20, 1 << 30)


def seeds():
    """Extension -> good files of a second."""
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    sound = tone(1.0) + 0.01 * noise
    both = np.stack([sound, 0.5 * sound], 1)
    fast = tone(1.0, rate=48_000)
    return {
        "wav": [coded(sound), coded(both, subtype="FLOAT"), coded(sound, subtype="PCM_24")],
        "flac": [coded(sound, form="FLAC"), coded(both, form="FLAC", subtype="PCM_24")],
        "ogg": [coded(sound, form="OGG"), coded(both, form="OGG") + coded(sound, form="OGG")],
        "opus": [coded(fast, 48_000, "OGG", "OPUS")],
        "mp3": [coded(sound, form="MP3"), coded(both, 44_100, "MP3", bitrate_mode="VARIABLE", compression_level=0.5)],
        "aiff": [coded(sound, form="AIFF"), coded(both, form="AIFF", subtype="FLOAT")],
        "m4a": [muxed(sound, "ipod", "aac"), muxed(sound, "mp4", "aac", options={"moov_size": "4000"})],
        "webm": [muxed(fast, "webm", "libopus", 48_000)],
    }


def mutated(draw, data, other):
    """``data`` with flips, lies in its header, a stretch lost, doubled, overwritten or spliced in from ``other``."""
    data = bytearray(data)
    at = draw.randrange(len(data))
    length = draw.choice((4, 64, 1024))
    kind = draw.choice((*("flip", "header", "number") * 2, "cut", "zero", "noise", "insert", "splice"))
    if kind == "flip":
        for _ in range(draw.choice((1, 2, 8, 64))):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif kind == "header":
        for _ in range(draw.choice((1, 2, 4))):
            data[draw.randrange(min(len(data), 200))] = draw.choice((0, 0x7F, 0x80, 0xFF, draw.randrange(256)))
    elif kind == "number":
        at = draw.randrange(min(len(data), 120))
        data[at : at + 4] = struct.pack(draw.choice(("<I", ">I")), draw.choice(_INTERESTING))
    elif kind == "cut":
        del data[at:]
    elif kind == "zero":
        data[at : at + length] = bytes(len(data[at : at + length]))
    elif kind == "noise":
        data[at : at + length] = draw.randbytes(len(data[at : at + length]))
    elif kind == "insert":
        data[at:at] = draw.randbytes(draw.choice((1, 3, 100)))
    else:
        data[at:] = other[draw.randrange(len(other)) :]
    return bytes(data)


def test_damaged_files_cost_themselves_only(tmp_path, capsys):
    draw, good = random.Random(0), seeds()
    every = [data for files in good.values() for data in files]
    paths = []
    for number in range(FILES):
        extension = list(good)[number % len(good)]
        data = mutated(draw, draw.choice(good[extension]), draw.choice(every))
        paths.append(str(tmp_path / f"{number}.{extension}"))
        (tmp_path / paths[-1]).write_bytes(data)
    counts = collections.defaultdict(collections.Counter)
    limits = Limits(max_seconds=30.0)
    decoded = decode_files(paths, limits, workers=2, file_seconds=10.0, memory_bytes=512 << 20)
    for path, found in zip(paths, decoded, strict=True):
        if isinstance(found, Failure):
            assert found.reason in errors.REASONS
            assert found.reason != "decoder_crashed" or found.detail.endswith("out of memory"), path
            outcome = found.reason
        else:
            assert found.dtype == np.int16
            assert 1600 <= len(found) <= 30 * 16_000
            outcome = "ok"
        counts[path.rpartition(".")[2]][outcome] += 1
    total = sum(counts.values(), collections.Counter())
    with capsys.disabled():
        for extension, outcomes in counts.items():
            print(f"\n{extension:>5}: {dict(outcomes.most_common())}", end="")
        print(f"\n{FILES} damaged files: {dict(total.most_common())}")
    assert total.total() == FILES
    assert total["decoder_crashed"] < FILES // 100  # a header that asks for more memory than a child has
    assert not total["decoder_timeout"]
    assert all(0 < outcomes["ok"] < FILES // 8 for outcomes in counts.values())
