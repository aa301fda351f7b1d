"""OpenTTD sound sets (.cat): WAVE files, each with a sentence that says what it is, who made it, under which licence.

A table of little-endian (offset u32, size u32) pairs comes first; the first offset divided by eight is their number
and the top bit of an offset is a flag. At each offset: a length byte, the sentence, and the WAVE file.
"""

import json
import pathlib
import struct

from alp_jax.core.errors import DataError
from alp_jax.corpora.captioned.mini.containers.sink import Sink

_MAX_ENTRIES = 4096


def unpack_cat(path: pathlib.Path, sink: Sink) -> None:
    """Writes ``00.wav``, ``01.wav``, ... and ``index.json`` (file name -> sentence) to ``sink``.

    Raises:
      DataError: not a sound set, truncated, or over the limits.
    """
    blob = path.read_bytes()
    index = {}
    if len(blob) < 8:
        raise DataError("sound set is truncated")
    first = struct.unpack_from("<I", blob)[0] & 0x7FFFFFFF
    count = first // 8
    if first % 8 or not 0 < count <= _MAX_ENTRIES or first > len(blob):
        raise DataError("not an OpenTTD sound set")
    for number in range(count):
        offset = struct.unpack_from("<I", blob, 8 * number)[0] & 0x7FFFFFFF
        if offset >= len(blob):
            raise DataError(f"sound {number} lies outside the file")
        length = blob[offset]
        start = offset + 1 + length
        sentence = blob[offset + 1 : start].split(b"\0")[0].decode("latin-1")
        riff = blob[start : start + 8]
        if len(riff) < 8 or riff[:4] != b"RIFF":
            raise DataError(f"sound {number} is not a WAVE file")
        size = 8 + struct.unpack("<I", riff[4:])[0]
        if start + size > len(blob):
            raise DataError(f"sound {number} is truncated")
        name = f"{number:02}.wav"
        sink.write(name, blob[start : start + size])
        index[name] = sentence
    sink.write("index.json", json.dumps(index, indent=1).encode())
