"""Safetensors files from elsewhere: no number in a file is trusted before it has been compared with the file's size.

Format: 8 bytes with the header's length (little endian), the header as JSON (name -> dtype, shape and data_offsets, and
``__metadata__``), then the tensors without gaps. The format has no checksum, so a changed weight cannot be noticed;
everything else can: no length, shape or offset makes this module reserve memory that the file does not fill.
"""

import json
import math
import os
import pathlib
import struct
from collections import Counter
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from alp_jax.core.errors import UserError

MAX_HEADER = 100_000_000  # bytes; the limit of the format
MAX_RANK = 16
MAX_NAME = 1000  # characters
FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
INTEGERS = {"I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_}
_SIZES = FLOATS | {name: np.dtype(kind).itemsize for name, kind in INTEGERS.items()}
_KEYS = {"dtype", "shape", "data_offsets"}


class Stored(NamedTuple):
    """The content of a file: ``tensors`` has all floating point numbers as float32; ``converted`` has the original
    types of those that were not.
    """

    tensors: dict[str, np.ndarray]
    converted: dict[str, str]


class _Entry(NamedTuple):
    begin: int
    end: int
    name: str
    dtype: str
    shape: tuple[int, ...]


def read_safetensors(path: str | os.PathLike) -> Stored:
    """Reads a whole file.

    Raises:
      UserError: the file is absent, cut off or damaged, or holds what this project cannot use (an unknown type, an
        empty tensor, a float64 beyond float32); the line names the file and, where there is one, the tensor.
    """
    path = pathlib.Path(path)
    try:
        with path.open("rb") as file:
            entries, start = _entries(file, os.fstat(file.fileno()).st_size, path)
            tensors, converted = {}, {}
            for entry in entries:
                tensors[entry.name] = _read(file, start, entry, path)
                if entry.dtype in FLOATS and entry.dtype != "F32":
                    converted[entry.name] = entry.dtype
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    return Stored(tensors, converted)


def _entries(file: BinaryIO, size: int, path: pathlib.Path) -> tuple[list[_Entry], int]:
    """The tensors of the header in the order of their bytes, and where the bytes begin."""
    head = file.read(8)
    if len(head) < 8:
        raise UserError(f"{path} has {size} bytes: too short for a safetensors file")
    (length,) = struct.unpack("<Q", head)
    start = 8 + length
    if length > MAX_HEADER or start > size:
        raise UserError(
            f"{path} claims a header of {length} bytes in a file of {size}: cut off, or not a safetensors file"
        )
    text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} has a damaged safetensors header: {str(error)[:200]}") from None
    if not isinstance(header, dict):
        raise UserError(f"{path} has a damaged safetensors header: it is not a JSON object")
    header.pop("__metadata__", None)
    # by where they begin, so that each must start where the last ended: overlaps and holes could hide data
    entries = sorted(_entry(name, value, path) for name, value in header.items())
    position = 0
    for entry in entries:
        if entry.begin != position:
            fault = "overlaps another tensor" if entry.begin < position else "leaves a hole before it"
            raise UserError(f"{path}: tensor {entry.name} begins at byte {entry.begin}, not {position}: it {fault}")
        if start + entry.end > size:
            raise UserError(
                f"{path}: tensor {entry.name} ends at byte {start + entry.end} of a file of {size}: cut off"
            )
        position = entry.end
    if start + position != size:
        raise UserError(f"{path} has {size - start - position} bytes after the last tensor")
    return entries, start


def _entry(name: str, value: Any, path: pathlib.Path) -> _Entry:
    if len(name) > MAX_NAME or not name.isprintable():
        raise UserError(f"{path}: {name[:60]!a} is not a valid tensor name")
    if not isinstance(value, dict) or value.keys() != _KEYS:
        raise UserError(f"{path}: tensor {name} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _SIZES:
        raise UserError(f"{path}: tensor {name} has type {str(dtype)[:40]!r}; known are {', '.join(_SIZES)}")
    if not _whole(shape) or len(shape) > MAX_RANK or 0 in shape:
        raise UserError(f"{path}: tensor {name} has shape {str(shape)[:80]}, which no weight can have")
    if not _whole(offsets) or len(offsets) != 2:
        raise UserError(f"{path}: tensor {name} has data_offsets {str(offsets)[:80]}, not two byte positions")
    need, have = math.prod(shape) * _SIZES[dtype], offsets[1] - offsets[0]
    if need != have:
        raise UserError(f"{path}: tensor {name} of {dtype} {str(shape)[:80]} needs {need} bytes but has {have}")
    return _Entry(offsets[0], offsets[1], name, dtype, tuple(shape))


def _read(file: BinaryIO, start: int, entry: _Entry, path: pathlib.Path) -> np.ndarray:
    file.seek(start + entry.begin)
    data = file.read(entry.end - entry.begin)
    if len(data) != entry.end - entry.begin:  # the file shrank while it was read
        raise UserError(f"{path}: tensor {entry.name} is cut off")
    if entry.dtype in INTEGERS:
        return np.frombuffer(data, np.dtype(INTEGERS[entry.dtype]).newbyteorder("<")).reshape(entry.shape)
    if entry.dtype == "BF16":  # the upper half of a float32's bits, so this is exact
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(entry.shape)
    stored = np.frombuffer(data, f"<f{FLOATS[entry.dtype]}").reshape(entry.shape)
    with np.errstate(over="ignore"):  # refused below, by name, rather than warned of
        value = stored.astype(np.float32, copy=False)
    if entry.dtype == "F64" and not np.array_equal(np.isfinite(value), np.isfinite(stored)):
        raise UserError(f"{path}: tensor {entry.name} holds float64 numbers beyond float32")
    return value


def _whole(values: Any) -> bool:
    return isinstance(values, list) and all(type(n) is int and 0 <= n < 2**63 for n in values)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{twice[0][:60]!a} appears twice")
    return dict(pairs)


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not a number that a header may hold")
