"""Arrow IPC files that are read through the page cache and cost a process no memory of its own."""

import contextlib
import mmap
import os
import pathlib

import numpy as np
import pyarrow as pa

from alp_jax.core.errors import DataError


class MappedTable:
    """A file of one record batch, mapped to memory; all processes of a host share its pages.

    Raises:
      DataError: it cannot be read.
    """

    def __init__(self, path: str | os.PathLike):
        try:
            with open(path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self.table = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(self._map))).read_all()
        except (OSError, ValueError, pa.ArrowInvalid) as error:
            raise DataError(f"{path} cannot be read: {error}") from None

    def column(self, name: str) -> pa.Array:
        """A column, without a copy."""
        chunks = self.table[name].chunks
        return chunks[0] if chunks else pa.array([], self.table.schema.field(name).type)

    def numpy(self, name: str) -> np.ndarray:
        """A column of numbers, or the codes of a dictionary column, as a view."""
        column = self.column(name)
        return (column.indices if isinstance(column, pa.DictionaryArray) else column).to_numpy()

    def release(self) -> None:
        """Gives back the pages that were read; the next access finds them in the page cache again."""
        with contextlib.suppress(AttributeError, OSError):  # systems without madvise
            self._map.madvise(mmap.MADV_DONTNEED)


def write_table(path: str | os.PathLike, table: pa.Table) -> None:
    """Writes ``table`` in one record batch, whole or not at all; OSError when it cannot be written."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(partial, "wb") as file:
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table.combine_chunks())
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
