"""The ledger: every measured number of a sweep in one append-only file of checksummed lines.

A line is 16 hex digits of SHA-256, a space and JSON: ``{"row": {...}}`` adds or replaces a row, ``{"retire": RUN}``
takes a run out that the sweep no longer has. Each line is one ``write``. A last line that a crash or a full disk cut
off is reported, and removed before the next line is written; a damaged line before it is refused, since nobody knows
what it said.
"""

import csv
import dataclasses
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from alp_jax.core.errors import StorageError, UserError
from alp_jax.core.files import write_bytes, write_text
from alp_jax.core.run_files import RESULTS, Result, RunSummary, failure_files, result_files

KEY = ("run", "task", "pooling", "metric")
SUMMARY_COLUMNS = tuple(one.name for one in dataclasses.fields(RunSummary) if one.name != "run")
VALUES = ("value", "interval_low", "interval_high", "chance", "floor")
COLUMNS = (*KEY, *SUMMARY_COLUMNS[:-1], *VALUES, SUMMARY_COLUMNS[-1])
TABLE = COLUMNS[:-1]  # columns of the files made from it: without what differs from machine to machine


class Ledger:
    """A ledger file, which need not exist yet; ``problems`` says so if its last line was cut off.

    Raises:
      UserError: a damaged line, by its number.
    """

    def __init__(self, path: str | pathlib.Path):
        self.path = pathlib.Path(path)
        self.problems: list[str] = []
        self._rows: dict[tuple, dict[str, Any]] = {}
        content = self.path.read_bytes() if self.path.exists() else b""
        *lines, tail = content.split(b"\n")
        for number, line in enumerate(lines, 1):
            event = _decode(line)
            if event is None:
                raise UserError(
                    f"ledger {self.path} line {number} is damaged (checksum mismatch): delete the line, and "
                    f"'alp sweep table --out {self.path.parent}' collects what it said from the run folders"
                )
            self._apply(event)
        self._whole, self._torn = len(content) - len(tail), bool(tail)  # bytes of whole lines; whether a part follows
        if tail:
            self.problems.append(f"{self.path} line {len(lines) + 1} is incomplete (a write was cut off)")

    def table(self) -> list[dict[str, Any]]:
        """Rows with ``COLUMNS``, the last one written for every (run, task, pooling, metric), in order of that key."""
        return [self._rows[key] for key in sorted(self._rows)]

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Adds rows, each with exactly ``COLUMNS``; returns once whole lines are on disk.

        Raises:
          StorageError: the disk is full.
        """
        for row in rows:
            if set(row) != set(COLUMNS):
                raise ValueError(f"ledger row with wrong columns: {sorted(set(row) ^ set(COLUMNS))}")
        self._write([{"row": row} for row in rows])

    def retire(self, run: str) -> None:
        """Takes the rows of ``run`` out of the table; the file keeps them."""
        self._write([{"retire": run}])

    def write_csv(self, path: str | pathlib.Path) -> None:
        """Writes the table's columns ``TABLE``, missing values as empty cells: same results, same bytes."""
        text = io.StringIO()
        writer = csv.DictWriter(text, TABLE, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self.table())
        write_text(path, text.getvalue())

    def write_parquet(self, path: str | pathlib.Path) -> None:
        """The same table with types: same results, same bytes (of one version of pyarrow)."""
        import pyarrow as pa  # not before it is needed: the driver of a sweep stays small
        import pyarrow.parquet as pq

        kinds = dict.fromkeys(KEY, str) | {one.name: one.type for one in dataclasses.fields(RunSummary)}
        types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
        schema = pa.schema([(column, types[kinds.get(column, float)]) for column in TABLE])
        rows = [{column: row[column] for column in TABLE} for row in self.table()]
        buffer = io.BytesIO()
        try:
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), buffer)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise UserError(f"ledger {self.path}: a value is of another type than its column: {error}") from None
        write_bytes(path, buffer.getvalue())

    def _apply(self, event: dict[str, Any]) -> None:
        if "row" in event:
            row = event["row"]
            self._rows[tuple(row[column] for column in KEY)] = row
        else:
            self._rows = {key: row for key, row in self._rows.items() if key[0] != event["retire"]}

    def _write(self, events: list[dict[str, Any]]) -> None:
        if not events and not self._torn:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if self._torn:  # before anything is appended: a whole line after half a line could never be read
                os.ftruncate(handle, self._whole)
                self._torn = False
            for event in events:
                line, self._torn = _encode(event), True  # until the whole line is known to be there
                if os.write(handle, line) != len(line):
                    raise StorageError(f"ledger {self.path}: the disk is full; free space and run the command again")
                self._whole, self._torn = self._whole + len(line), False
                self._apply(event)  # only now: memory never holds more than the file
            os.fsync(handle)
        except OSError as error:
            raise StorageError(f"ledger {self.path}: {error.strerror}") from None
        finally:
            os.close(handle)


def collect(path: str | pathlib.Path, folders: list[pathlib.Path]) -> Ledger:
    """Brings the ledger up to date with finished run folders and rewrites the ``.csv`` beside it.

    Only rows that are new or have changed are appended; runs that are not among ``folders`` are retired. A result file
    that cannot be used is reported in ``problems`` and leaves the other rows alone. One process at a time.

    Raises:
      UserError: the ledger is damaged.
    """
    ledger = Ledger(path)
    have = {tuple(row[column] for column in KEY): row for row in ledger.table()}
    for run in sorted({key[0] for key in have} - {folder.name for folder in folders}):
        ledger.retire(run)
    fresh = []
    for folder in folders:
        rows, problems = read_run(folder)
        ledger.problems += problems
        fresh += [row for row in rows if have.get(tuple(row[column] for column in KEY)) != row]
    ledger.append(fresh)
    ledger.write_csv(ledger.path.with_suffix(".csv"))
    return ledger


def read_run(folder: pathlib.Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The ledger rows of one run folder and what could not be read.

    A run has the name of its folder, which may have been renamed since training.
    """
    try:
        settings = RunSummary.read(folder).to_json() | {"run": folder.name}
    except UserError as error:
        return [], [str(error)]
    rows, problems = [], []
    for file in result_files(folder / RESULTS):
        try:
            result = Result.read(file)
        except UserError as error:
            problems.append(str(error))
            continue
        names = settings | {"task": result.task, "pooling": result.pooling}
        rows += [names | {"metric": metric} | _numbers(values) for metric, values in result.metrics.items()]
    for file in failure_files(folder / RESULTS):
        problems.append(f"{file}: {' '.join(file.read_text().split())[:200]}")
    if not rows:
        problems.append(f"{folder} has no usable result in {RESULTS}/")
    return rows, problems


def _numbers(values: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of one metric of a result, under the columns ``VALUES``."""
    low, high = values["interval"] or (None, None)
    numbers = zip(VALUES, (values["value"], low, high, values["chance"], values["floor"]), strict=True)
    return {name: None if number is None else float(number) for name, number in numbers}


def _encode(event: dict[str, Any]) -> bytes:
    body = json.dumps(event, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    return hashlib.sha256(body).hexdigest()[:16].encode() + b" " + body + b"\n"


def _decode(line: bytes) -> dict[str, Any] | None:
    digest, _, body = line.partition(b" ")
    if hashlib.sha256(body).hexdigest()[:16].encode() != digest:
        return None
    return json.loads(body)
