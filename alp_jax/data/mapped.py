"""Arrow IPC files that are read through the page cache and cost a process no memory of its own."""

import contextlib
import mmap
import os

import numpy as np
import pyarrow as pa

from alp_jax.core.errors import DataError


class MappedTable:
    """A file of one record batch, mapped to memory; all processes of a host share its pages.

    Raises:
      DataError: it cannot be read.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = path
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
        """A column of numbers, or the codes of a dictionary column, as a view; DataError when it has gaps."""
        column = self.column(name)
        try:
            return (column.indices if isinstance(column, pa.DictionaryArray) else column).to_numpy()
        except pa.ArrowInvalid as error:
            raise DataError(f"{self._path} is damaged: {error}") from None

    def release(self) -> None:
        """Gives back the pages that were read; the next access finds them in the page cache again."""
        with contextlib.suppress(AttributeError, OSError):  # systems without madvise
            self._map.madvise(mmap.MADV_DONTNEED)
