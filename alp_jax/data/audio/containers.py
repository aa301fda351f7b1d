"""Audio inside a larger file: rows of parquet as the Hugging Face datasets library writes them, files in tar and zip
archives, and records of TensorFlow Datasets (TFDS)."""

import io
import os
import pathlib
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq

from alp_jax.core.clip import AUDIO_EXTENSIONS
from alp_jax.core.errors import UserError
from alp_jax.core.split_zip import ZipArchive
from alp_jax.data.audio import array_records
from alp_jax.data.audio.decoders import sniff
from alp_jax.data.audio.errors import BadAudio

_COLUMN = "audio"
_PAGES = 1 << 20  # bytes read at a time


class MemberReader:
    """Reads members one at a time and keeps its place: going through a file in order reads it once.

    Parquet has no random access to a row: its row group is read from the start up to that row, with one row in memory
    at a time. If the column has a dictionary, as in small row groups written by pyarrow, memory holds twice the row
    group.
    """

    def __init__(self):
        self._close()

    def read(self, path: str, member: str, max_bytes: int) -> tuple[bytes, str]:
        """The encoded audio of a member, and the extension of such a file (``.mp3``, ``.flac``, ``.wav``).

        Args:
          path: a parquet file with a column ``audio`` of struct{bytes, path} or of bytes, a tar archive, a zip archive
            (of several volumes the last), or a shard of a TFDS data set.
          member: for parquet the row number from 0, followed by ``:<column>`` unless that is ``audio``; for tar the
            byte at which the file begins; for zip ``<start>:<length>`` of ``split_zip.Entry``; for TFDS the record
            number from 0.
          max_bytes: larger audio is refused.

        Raises:
          BadAudio: ``missing``, ``empty``, ``too_large``, ``corrupt`` or ``unsupported``, for this member.
        """
        number, _, column = member.partition(":")
        if not number.isdecimal():
            raise BadAudio("missing", f"{path} has no member {member!r}")
        try:
            if ".array_record" in pathlib.Path(path).name:
                data, extension = array_records.read_audio(path, int(member))
            elif path.lower().endswith(".tar"):
                data, extension = _file(path, int(member), max_bytes)
            elif path.lower().endswith(".zip"):
                data, extension = self._zipped(path, int(number), int(column), max_bytes)
            else:
                data, extension = self._row(pathlib.Path(path), int(number), column or _COLUMN)
        except FileNotFoundError:
            raise BadAudio("missing", f"{path} does not exist") from None
        except (ValueError, LookupError, TypeError, AttributeError, OSError, UserError, pa.ArrowException) as error:
            self._close()
            raise BadAudio("corrupt", f"{path} member {member}: {' '.join(str(error).split())}") from None
        if not data:
            raise BadAudio("empty", f"{path} member {member}")
        if len(data) > max_bytes:
            raise BadAudio("too_large", f"{path} member {member}: {len(data)} bytes")
        return data, extension

    def _zipped(self, path: str, start: int, length: int, max_bytes: int) -> tuple[bytes, str]:
        if self._archive is None or self._archive[0] != path:
            os.stat(path)  # one that is gone is missing, not damaged
            self._archive = path, ZipArchive(path)
        name, data = self._archive[1].read(start, length, max_bytes)
        return data, _extension(name, data) if data else ""

    def _row(self, path: pathlib.Path, row: int, column: str) -> tuple[bytes, str]:
        status = path.stat()
        version = (path, column, status.st_size, status.st_mtime_ns)
        if self._place is None or self._place[:-1] != version:
            self._close()
            self._file = pq.ParquetFile(path, pre_buffer=False, buffer_size=_PAGES)
            self._place = (*version, -1)
        first = 0
        for group in range(self._file.num_row_groups):
            count = self._file.metadata.row_group(group).num_rows
            if row < first + count:
                break
            first += count
        else:
            raise BadAudio("missing", f"{path} has {first} rows, so no row {row}")
        if self._place[-1] != group or row < self._next:
            plain = not pa.types.is_struct(self._file.schema_arrow.field(column).type)
            columns = [column] if plain else [f"{column}.bytes", f"{column}.path"]
            self._rows = iter(())  # frees the group before the next one is read
            self._rows = self._file.iter_batches(1, row_groups=[group], columns=columns, use_threads=False)
            self._place, self._next = (*version, group), first
        while self._next <= row:
            batch = next(self._rows, None)
            if batch is None:
                raise ValueError(f"row group {group} has fewer rows than stated")
            self._next += 1
        value = batch.column(0)[0].as_py()
        if isinstance(value, bytes):
            value = {"bytes": value, "path": None}
        if not value or value.get("bytes") is None:
            raise BadAudio("missing", f"{path} row {row} has no audio bytes")
        return value["bytes"], _extension(value.get("path") or "", value["bytes"])

    def _close(self) -> None:
        self._place: tuple | None = None  # (path, column, size, modification time, row group) of _rows
        self._file: pq.ParquetFile | None = None
        self._rows, self._next = iter(()), 0
        self._archive: tuple[str, ZipArchive] | None = None


def _file(path: str, start: int, max_bytes: int) -> tuple[bytes, str]:
    """The file in a tar archive whose bytes begin at ``start``; its header is the block before."""
    block = tarfile.BLOCKSIZE
    fd = os.open(path, os.O_RDONLY)
    try:
        if start < block:
            raise ValueError("there is no header at that position")
        member = tarfile.TarInfo.frombuf(os.pread(fd, block, start - block), "utf-8", "surrogateescape")
        if not member.isreg():
            raise ValueError(f"{member.name!a} is not a plain file")
        if member.size > max_bytes:
            raise BadAudio("too_large", f"{path} {member.name}: {member.size} bytes")
        data = os.pread(fd, member.size, start)
    except tarfile.TarError as error:
        raise ValueError(f"the archive has changed: {error}") from None
    finally:
        os.close(fd)
    if len(data) < member.size:
        raise ValueError(f"{member.name!a} is cut short")
    return data, _extension(member.name, data) if data else ""


def _extension(name: str, data: bytes) -> str:
    """The extension of ``name`` if it is one of audio, else the one that fits the first bytes."""
    stated = pathlib.PurePath(name).suffix.lower()
    if stated in AUDIO_EXTENSIONS:
        return stated
    extension = sniff.EXTENSIONS.get(sniff.look(io.BytesIO(data))[1])
    if extension:
        return extension
    raise BadAudio("unsupported", f"audio named {name!r} in no known format")


read_member = MemberReader().read
