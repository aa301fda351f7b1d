"""The rows of a user's table in any common form: CSV with any separator, JSON, JSON lines, parquet, tar.

A row comes with its cells by meaning (``columns.py``) and, if in a container, with the location of its audio. An error
in one row costs that row (Rejected); an error in the table is a UserError.
"""

import csv
import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence

from alp_jax.core.clip import Rejected
from alp_jax.core.errors import UserError
from alp_jax.corpora import json_stream, tables
from alp_jax.corpora.captioned.folder import columns
from alp_jax.corpora.captioned.folder.cells import empty
from alp_jax.corpora.captioned.folder.columns import CAPTION, LABEL, Column, Columns

SEPARATORS = (",", ";", "\t", "|")  # the first wins among those that fit a header equally well
TEXT = (".csv", ".tsv", ".tab", ".json", ".jsonl", ".ndjson")  # each with .gz too
CONTAINERS = (".parquet", ".tar")
OBJECTS = (".json", ".jsonl", ".ndjson")  # kinds whose rows may have different columns
_TIMES, _DECIMAL = ("start", "end", "duration"), re.compile(r"\s*\d+,\d+\s*")
_OTHERS = {
    ".xlsx": "save it as CSV",
    ".xls": "save it as CSV",
    ".tgz": "gunzip it: audio in it cannot be reached without unpacking",
    ".tar.gz": "gunzip it: audio in it cannot be reached without unpacking",
    ".zip": "unzip it",
    ".arrow": "save it as parquet",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
      where: file and row, for messages.
      cells: meaning (of ``columns.COLUMN_NAMES``) -> value, without empty cells.
      captions: the cells of the columns of captions, in their order.
      labels: task -> value.
      container, member: where the audio lies if it is in a container (``Clip.member``); else "".
      name: the name of the audio inside the container.
      used: the columns in use, each with its place in the values of a row.
      folder: where to look for the file if no audio folder is given; None: nowhere.
    """

    where: str
    cells: dict
    captions: tuple = ()
    labels: dict = dataclasses.field(default_factory=dict)
    container: str = ""
    member: str = ""
    name: str = ""
    folder: pathlib.Path | None = None
    used: Sequence[tuple[int | str, Column]] = ()

    def meanings(self) -> set[str]:
        """The meanings of the table's columns, whether or not their cells in this row are empty."""
        return {column.meaning for _, column in self.used}


Rows = Iterator[Row | Rejected]


def suffix(path: pathlib.Path) -> str:
    """The kind of a table: its last suffix in lower case, or the one before ``.gz``.

    Raises:
      UserError: it is not a kind that can be read.
    """
    name = path.name.lower()
    plain = name.removesuffix(".gz")
    for known in (*TEXT, *CONTAINERS):
        if plain.endswith(known) and (plain == name or known in TEXT):
            return known
    remedy = next((f": {advice}" for end, advice in _OTHERS.items() if name.endswith(end)), "")
    kinds = f"{', '.join(TEXT)} (also with .gz) or {', '.join(CONTAINERS)}"
    raise UserError(f"{path} must end in {kinds}{remedy}")


def rows(path: pathlib.Path, known: Columns) -> Rows:
    """The rows of a table whose audio is files beside it (``TEXT``).

    Raises:
      UserError: it cannot be read, has no column that names the file, or has unknown columns.
    """
    kind = suffix(path)
    if kind in (".csv", ".tsv", ".tab"):
        return _csv(path, known, kind)
    first = _first_character(path)
    if first == "[":
        return _objects(path, "record", json_stream.json_rows(path, unique=True), known)
    if kind == ".json" and first == "{":
        _check_lines(path)
    return _objects(path, "line", tables.jsonl_rows(path, unique=True), known)


def row_of(where: str, values: Sequence | dict, used: Sequence[tuple[int | str, Column]], **fields) -> Row:
    """A row from its values, the columns in use with their places in the values, and other fields."""
    cells, captions, labels = {}, [], {}
    for key, column in used:
        value = values[key]
        if empty(value):
            continue
        if column.meaning == CAPTION:
            captions.append(value)
        elif column.meaning == LABEL:
            labels[column.task] = value
        else:
            cells[column.meaning] = value
    return Row(where, cells, tuple(captions), labels, used=used, **fields)


def _csv(path: pathlib.Path, known: Columns, kind: str) -> Rows:
    separator = _separator(path, kind)

    def pick_of(header: list[str]) -> Callable[[list[str]], list[str]]:
        nonlocal used
        columns_used = known.of(header, str(path), f"{path} header")
        used = [(header.index(column.name), column) for column in columns_used]
        return lambda cells: cells

    used: list = []
    for row in tables.csv_table(path, pick_of, separator):
        if isinstance(row, Rejected):
            yield row
            continue
        parsed = row_of(f"{path} line {row[0]}", row[1], used)
        if separator != ",":
            # a table whose separator is not a comma may have times with a decimal comma
            for meaning in _TIMES:
                if _DECIMAL.fullmatch(parsed.cells.get(meaning, "")):
                    parsed.cells[meaning] = parsed.cells[meaning].replace(",", ".")
        yield parsed


def _separator(path: pathlib.Path, kind: str) -> str:
    """The separator of cells, from the header alone: the one that gives most known columns, then most cells."""
    order = SEPARATORS if kind == ".csv" else ("\t", *(mark for mark in SEPARATORS if mark != "\t"))
    headers = []
    for mark in order:
        try:
            headers.append(tables.csv_header(path, mark))
        except csv.Error:
            headers.append([])
    best = max(range(len(order)), key=lambda n: (columns.known(headers[n]), len(headers[n]), -n))
    return order[best]


def _first_character(path: pathlib.Path) -> str:
    with tables.open_text(path) as file:
        try:
            return next((line.lstrip()[0] for line in file if line.strip()), "")
        except (OSError, EOFError) as error:
            raise UserError(f"{path} cannot be read to its end: {error}") from None


def _check_lines(path: pathlib.Path) -> None:
    """Raises UserError for a JSON file that is neither a list nor JSON lines."""
    with tables.open_text(path) as file:
        line = next(line for line in file if line.strip())
    try:
        whole = isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        whole = False
    if not whole:
        raise UserError(f"{path} is one JSON object; give a list of them, [{{...}}, ...], or one on each line")


def _objects(path: pathlib.Path, unit: str, objects: Iterator[tuple[int, dict] | Rejected], known: Columns) -> Rows:
    """The objects as rows. One that names no file is rejected; if it is the first, the table is of another kind."""
    first = True
    for row in objects:
        if isinstance(row, Rejected):
            yield row
            continue
        where = f"{path} {unit} {row[0]}"
        try:
            columns_used = known.of(tuple(row[1]), str(path), where)
            yield row_of(where, row[1], [(column.name, column) for column in columns_used])
        except columns.NoFile:
            if first:
                raise
            yield Rejected(where, "bad_record", "no file name")
        first = False
