"""A column of what records hold, in Arrow's compact form, that reads like a list of Python values."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

import pyarrow as pa

PIECE_ROWS = 1 << 14  # in a piece

T = TypeVar("T")


class RecordColumn(Sequence[T], Generic[T]):
    """A sequence of ``value(v)`` for every value v of ``pieces``; none of the Python values is kept.

    Args:
      pieces: arrays of PIECE_ROWS values, the last of as many or fewer.
      value: makes what is read of what Arrow gives.
    """

    def __init__(self, pieces: Sequence[pa.Array], value: Callable[[Any], T]):
        self._pieces, self._value, self._rows = tuple(pieces), value, sum(map(len, pieces))

    def __len__(self) -> int:
        return self._rows

    @overload
    def __getitem__(self, row: int) -> T: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[T]: ...
    def __getitem__(self, row):
        if isinstance(row, slice):
            return [self[k] for k in range(*row.indices(len(self)))]
        if not 0 <= row < self._rows:
            raise IndexError(f"row {row} of {self._rows}")
        piece, at = divmod(int(row), PIECE_ROWS)
        return self._value(self._pieces[piece][at].as_py())

    def __iter__(self) -> Iterator[T]:
        for piece in self._pieces:
            yield from map(self._value, piece.to_pylist())
