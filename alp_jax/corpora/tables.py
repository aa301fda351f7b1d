"""Metadata tables of any length as streams of rows: CSV and JSON lines, plain or gzipped, and parquet.

An error in one row costs that row (Rejected); an error in the file is a UserError.
"""

import csv
import gzip
import io
import itertools
import json
import operator
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from alp_jax.core.clip import Rejected
from alp_jax.core.errors import UserError
from alp_jax.core.names import nearest
from alp_jax.corpora.rows import BadRow, check_utf8

T = TypeVar("T")
_HEAD = 4096
_MOST_LINES = 64  # of one CSV row: a quote that is never closed must not swallow the file
_BATCH = 4096  # rows of parquet in memory at a time
_PAGES = 1 << 20  # bytes read at a time


def open_text(path: pathlib.Path) -> io.TextIOWrapper:
    """Opens UTF-8 text, gzipped if the name ends in .gz; bytes that are not UTF-8 become lone surrogates.

    Raises:
      UserError: no such file, no permission, not gzip, or text in UTF-16 or UTF-32.
    """
    try:
        file = (gzip.open if path.suffix == ".gz" else open)(path, "rb")
        head = file.read(_HEAD)
        file.seek(0)
    except (OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head:
        file.close()
        raise UserError(f"{path} is not UTF-8 (UTF-16?): save it as UTF-8")
    return io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")


class _Lines:
    """Lines of a file for csv.reader; lines that turn out not to form one row can be given back."""

    def __init__(self, file: io.TextIOWrapper):
        self._file, self._waiting, self._row = iter(file), [], []
        self.first, self.ascii = 1, True

    def begin(self) -> None:
        """Notes that the next line starts a row."""
        self.first += len(self._row)
        self._row, self.ascii = [], True

    def give_back(self) -> None:
        """Gives back all lines of this row but the first, which alone was a row."""
        self._waiting = self._row[1:] + self._waiting
        del self._row[1:]

    @property
    def first_line(self) -> str:
        """The first line of this row."""
        return self._row[0]

    def __iter__(self):
        return self

    def __next__(self) -> str:
        line = self._waiting.pop(0) if self._waiting else next(self._file)
        self._row.append(line)
        if len(self._row) > _MOST_LINES:
            raise csv.Error(f"a quote that is not closed within {_MOST_LINES} lines")
        self.ascii = self.ascii and line.isascii()
        return line


def csv_rows(
    path: pathlib.Path,
    required: Sequence[str],
    optional: Sequence[str] = (),
    fallback: str = "",
    separator: str = ",",
    header: bool = True,
) -> Iterator[tuple[int, tuple[str, ...]] | Rejected]:
    """(line number, cells of ``required`` and then ``optional`` columns) of every row; absent columns give "".

    Args:
      fallback: encoding of rows that are not UTF-8; "" rejects them.
      header: whether the first row names the columns; if not, they are ``required``.

    Raises:
      UserError: a required column is missing, or as ``open_text``.
    """

    def pick(names: list[str]) -> Callable:
        _check_columns(path, names, required, optional)
        columns = [names.index(name) if name in names else None for name in (*required, *optional)]
        if None not in columns and len(columns) > 1:
            return operator.itemgetter(*columns)
        return lambda cells: tuple("" if column is None else cells[column] for column in columns)

    with open_text(path) as file:
        yield from _read_csv(path, file, pick, fallback, separator, () if header else required)


def csv_table(
    path: pathlib.Path, pick_of: Callable[[list[str]], Callable[[list[str]], T]], separator: str
) -> Iterator[tuple[int, T] | Rejected]:
    """(line number, picked value) of every row; ``pick_of`` takes the header and returns the function that picks."""
    with open_text(path) as file:
        yield from _read_csv(path, file, pick_of, "", separator)


def csv_header(path: pathlib.Path, separator: str = ",") -> list[str]:
    """The column names of a CSV file; empty for an empty file. Raises csv.Error if it has none."""
    with open_text(path) as file:
        header = next((cells for cells in csv.reader(_Lines(file), delimiter=separator) if _is_header(cells)), [])
        return [name.strip() for name in header]


def _read_csv(
    path, file, pick_of: Callable[[list[str]], Callable], fallback: str, separator=",", columns: Sequence[str] = ()
) -> Iterator:
    lines = _Lines(file)
    reader = csv.reader(lines, strict=True, delimiter=separator)
    expected = "the published table has" if columns else "the header has"
    width, pick = len(columns), pick_of(list(columns)) if columns else None
    while True:
        lines.begin()
        try:
            cells = next(reader)
            if not lines.ascii:
                cells = _decoded(cells, fallback)
        except StopIteration:
            break
        except (OSError, EOFError) as error:
            raise UserError(f"{path} cannot be read to its end: {error}") from None
        except (csv.Error, BadRow) as error:
            if pick is None:
                raise UserError(f"{path}: the header cannot be read: {error}") from None
            lines.give_back()
            bad = error if isinstance(error, BadRow) else BadRow("bad_csv", str(error))
            cells = _unquoted(lines.first_line, width, fallback) if separator == "\t" and bad is not error else None
            yield (
                (lines.first, pick(cells)) if cells else Rejected(f"{path} line {lines.first}", bad.reason, bad.detail)
            )
            continue
        if pick is None and not _is_header(cells):
            continue
        if pick is None:
            pick, width = pick_of([name.strip() for name in cells]), len(cells)
        elif len(cells) == width:
            yield lines.first, pick(cells)
        elif cells:
            yield Rejected(f"{path} line {lines.first}", "wrong_columns", f"{len(cells)} cells, but {expected} {width}")
    if pick is None:
        pick_of([])


def _unquoted(line: str, width: int, fallback: str) -> list[str] | None:
    """The tab-separated cells of a line, quotes being ordinary characters; None if that gives no row either."""
    cells = line.rstrip("\r\n").split("\t")
    try:
        return _decoded(cells, fallback) if len(cells) == width else None
    except BadRow:
        return None


def _is_header(cells: list[str]) -> bool:
    """False for the blank lines, and the line ``sep=;`` of spreadsheet programs, that may come before a header."""
    return bool(cells) and not (cells[0].startswith("sep=") and len("".join(cells)) <= len("sep=;"))


def _decoded(cells: list[str], fallback: str) -> list[str]:
    try:
        for cell in cells:
            if not cell.isascii():
                check_utf8(cell, "row")
    except BadRow:
        if not fallback:
            raise
        return [cell.encode(errors="surrogateescape").decode(fallback) for cell in cells]
    return cells


def _check_columns(path: pathlib.Path, names: list[str], required: Sequence[str], optional: Sequence[str]) -> None:
    missing = [name for name in required if name not in names]
    twice = next((name for name in (*required, *optional) if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path}: two columns are called {twice!r}; rename or remove one")
    if not missing:
        return
    hint = nearest(missing[0], names) if names else ""
    if len(names) == 1:
        mark = next((mark for mark in ";\t|" if mark in names[0]), "")
        hint = f"; cells seem to be separated by {mark!r}, not by commas" if mark else hint
    raise UserError(f"{path}: no column {missing[0]!r}{hint}; expected {', '.join((*required, *optional))}")


def jsonl_rows(
    path: pathlib.Path, required: Sequence[str] = (), unique: bool = False
) -> Iterator[tuple[int, dict] | Rejected]:
    """(line number, object) of every nonblank line.

    Args:
      unique: reject objects that have a key twice.

    Raises:
      UserError: the first object lacks a key of ``required``, or as ``open_text``.
    """
    with open_text(path) as file:
        checked = False
        for number in itertools.count(1):
            try:
                line = next(file, None)
            except (OSError, EOFError) as error:
                raise UserError(f"{path} cannot be read to its end: {error}") from None
            if line is None:
                return
            if not line.strip():
                continue
            try:
                if not line.isascii():
                    check_utf8(line, "line")
                record = json.loads(line, object_pairs_hook=once if unique else None)
                if isinstance(record, Repeated):
                    raise BadRow("bad_json", f"the key {record!s} appears twice")
                if not isinstance(record, dict):
                    raise BadRow("bad_json", "not a JSON object")
            except BadRow as error:
                yield Rejected(f"{path} line {number}", error.reason, error.detail)
            except (ValueError, RecursionError) as error:
                yield Rejected(f"{path} line {number}", "bad_json", str(error))
            else:
                if not checked:
                    check_keys(path, record, required)
                    checked = True
                yield number, record


class Repeated(str):
    """Takes the place of a JSON object that has this key twice."""


def once(pairs: list[tuple[str, object]]) -> "dict | Repeated":
    """Hook for json that builds an object, or Repeated, because a dict would silently drop a repeated key."""
    record = dict(pairs)
    if len(record) == len(pairs):
        return record
    return Repeated(next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number])))


def check_keys(path: pathlib.Path, record: dict, required: Sequence[str]) -> None:
    """Raises UserError if the first record of a file lacks a required key."""
    missing = [name for name in required if name not in record]
    if missing:
        raise UserError(
            f"{path}: records have no {missing[0]!r}{nearest(missing[0], record) if record else ''}; "
            f"expected {', '.join(required)}"
        )


def open_parquet(path: pathlib.Path) -> pq.ParquetFile:
    """Opens a parquet file; UserError if it is not one or cannot be read."""
    try:
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=_PAGES)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read as parquet: {' '.join(str(error).split())}") from None


def parquet_rows(
    path: pathlib.Path, required: Sequence[str], optional: Sequence[str] = (), lists: Sequence[str] = ()
) -> Iterator[tuple[int, tuple]]:
    """(row number from 1, values of ``required`` and then ``optional`` columns) of every row; absent ones give None.

    Raises:
      UserError: not parquet, damaged, a required column is missing, or a column of ``lists`` does not hold lists.
    """
    wanted = (*required, *optional)
    with open_parquet(path) as file:
        schema = file.schema_arrow
        _check_columns(path, schema.names, required, optional)
        for name in set(wanted) & set(schema.names):
            kind = schema.field(name).type
            holds_lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
            if pa.types.is_struct(kind) or holds_lists != (name in lists):
                wanted_kind = "a list of texts" if name in lists else "text or a number"
                raise UserError(f"{path}: column {name!r} is {kind}, not {wanted_kind}")
        present = [name for name in wanted if name in schema.names]
        number = 0
        for batch in batches(path, file, present):
            columns = {name: itertools.repeat(None, len(batch)) for name in wanted}
            columns |= {name: column.to_pylist() for name, column in zip(present, batch.columns, strict=True)}
            for values in zip(*columns.values(), strict=True):
                number += 1
                yield number, values


def batches(path: pathlib.Path, file: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows of an open parquet file in batches; UserError if it turns out to be damaged."""
    try:
        yield from file.iter_batches(_BATCH, columns=columns)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged: {' '.join(str(error).split())}") from None
