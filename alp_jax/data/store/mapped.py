"""Arrow IPC files read through the page cache, which cost a process no memory of its own."""

import contextlib
import mmap
import os
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from alp_jax.core import storage
from alp_jax.core.errors import DataError


class MappedTable:
    """A file of one record batch: whole columns through a memory map, single rows by reading a few bytes of the file.

    Touching scattered rows of a big map would make ever more of it resident, because the system maps a run of pages for
    every page touched. Reading the bytes of those rows from the file does not.

    Raises:
      DataError: it cannot be read.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = path
        self._known: dict[str, tuple[int, np.dtype]] = {}
        try:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115  stays open to read rows
            # Columns of the table point into this buffer: their addresses minus its own are offsets in the file. That
            # takes one record batch, written without compression, as ``write_table`` does.
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
            self._buffer = pa.py_buffer(self._map)
            self.table = pa.ipc.open_file(pa.BufferReader(self._buffer)).read_all()
        except (OSError, ValueError, pa.ArrowInvalid) as error:
            raise DataError(f"{path} cannot be read: {error}") from None

    def column(self, name: str) -> pa.Array:
        """A column, without a copy."""
        chunks = self.table[name].chunks
        return chunks[0] if chunks else pa.array([], self.table.schema.field(name).type)

    def numpy(self, name: str) -> np.ndarray:
        """A column of numbers, or the codes of a dictionary column, as a view; DataError if it contains nulls."""
        column = self.column(name)
        try:
            return (column.indices if isinstance(column, pa.DictionaryArray) else column).to_numpy()
        except pa.ArrowInvalid as error:
            raise DataError(f"{self._path} is damaged: {error}") from None

    def values(self, name: str, rows: Iterable[int]) -> np.ndarray:
        """``numpy(name)[rows]``, read from the file."""
        first, dtype = self._places(name)
        width, descriptor = dtype.itemsize, self._file.fileno()
        return np.frombuffer(b"".join(os.pread(descriptor, width, first + width * int(row)) for row in rows), dtype)

    def text(self, name: str, row: int) -> str:
        """One value of a column of strings, read from the file."""
        (first, dtype), data = self._places(name), self._place(self.column(name).buffers()[2])
        try:
            # a string's bounds are two adjacent int32, relative to the start of the column's text
            begin, end = np.frombuffer(os.pread(self._file.fileno(), 8, first + 4 * row), dtype)
            return os.pread(self._file.fileno(), int(end - begin), data + int(begin)).decode()
        except (OSError, ValueError) as error:
            raise DataError(f"{self._path} is damaged: {name} of row {row}: {error}") from None

    def _places(self, name: str) -> tuple[int, np.dtype]:
        """Offset in the file of a column's numbers, and their type; for strings those of their bounds."""
        if name not in self._known:
            column = self.column(name)
            if isinstance(column, pa.DictionaryArray):
                column = column.indices
            dtype = np.int32 if pa.types.is_string(column.type) else pa.array([], column.type).to_numpy().dtype
            self._known[name] = self._place(column.buffers()[1]), np.dtype(dtype)
        return self._known[name]

    def _place(self, buffer: pa.Buffer) -> int:
        return buffer.address - self._buffer.address

    def release(self) -> None:
        """Unmaps the pages that were read; the next access gets them from the page cache again."""
        with contextlib.suppress(AttributeError, OSError):  # systems without madvise
            self._map.madvise(mmap.MADV_DONTNEED)


def write_table(path: storage.Location, table: pa.Table) -> None:
    """Writes an Arrow IPC file with the table in one record batch, so that columns map to memory without a copy.

    Raises:
      StorageError: it could not be written.
    """
    with storage.partial(path) as partial, pa.ipc.new_file(str(partial), table.schema) as writer:
        writer.write_table(table.combine_chunks())
