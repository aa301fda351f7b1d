"""TensorBoard's event files: TFRecord frames around Event messages, of which scalars and session starts are written.

Field numbers are those of tensorboard/compat/proto: event.proto, summary.proto. The packages that write these files
load torch wherever it is installed, or need TensorFlow.
"""

import pathlib
import socket
import struct
import time

from alp_jax.data.store.records import frame

_SESSION_START = 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of protocol buffers


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _field(number: int, value: int | bytes, wire: int = _BYTES) -> bytes:
    """A field of a message; ``value`` is what follows the key: an integer, or bytes of the wire type's length."""
    key = _varint(number << 3 | wire)
    if isinstance(value, int):
        return key + _varint(value)
    return key + (_varint(len(value)) if wire == _BYTES else b"") + value


def _event(step: int, content: bytes) -> bytes:
    wall_time = _field(1, struct.pack("<d", time.time()), _FIXED64)
    return frame(wall_time + _field(2, step, _VARINT) + content)


class EventFile:
    """A new event file in ``folder``. With ``first`` above 0 TensorBoard forgets what older files say from there on."""

    def __init__(self, folder: pathlib.Path, first: int):
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
        number = 0
        while (path := folder / f"{stem}.{number}").exists():  # begun in the same second
            number += 1
        self._file = path.open("xb")
        self._file.write(_event(0, _field(3, b"brain.Event:2")))
        if first:
            self._file.write(_event(first, _field(7, _field(1, _SESSION_START, _VARINT))))
        self._file.flush()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Adds scalars of ``step``, stored as float32."""
        summary = b"".join(
            _field(1, _field(1, name.encode()) + _field(2, _float32(value), _FIXED32)) for name, value in values.items()
        )
        self._file.write(_event(step, _field(5, summary)))
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _float32(value: float) -> bytes:
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", float("inf") if value > 0 else float("-inf"))
