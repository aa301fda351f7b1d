"""Your own audio: a folder of files and a table of captions, CSV or JSONL.

Columns (CSV) or keys (JSONL): ``file_name`` (or ``path``, ``audio``) relative to the folder; ``caption`` or
``caption_1`` ... ``caption_9`` (JSONL also ``captions``, a list); optional ``id``, ``split``, ``tags`` (separated by
semicolons, or a list), ``start``, ``duration`` (seconds), ``label_<task>``, ``group``, ``recording``, ``license``.
"""

import csv
import io
import json
import math
import os
import pathlib
import re
from collections.abc import Iterator, Mapping

from alp_jax.core.clip import SPLITS, Clip
from alp_jax.core.errors import UserError

_PATH_KEYS = ("file_name", "path", "audio")
_PLAIN_KEYS = {*_PATH_KEYS, "caption", "captions", "id", "split", "tags", "start", "duration", "group", "recording"}
_EXPECTED = "file_name (or path, audio), caption or caption_1..caption_9, and optionally id, split, tags, start, " \
            "duration, label_<task>, group, recording, license"  # fmt: skip


def clips(audio_dir: str | os.PathLike, captions_file: str | os.PathLike, source: str = "folder") -> list[Clip]:
    """One clip per row of ``captions_file``, in file order.

    A row without captions is kept (it may carry labels); a file that does not exist is kept too, the builder counts
    it. The default split is ``train`` and the default recording and group are the path, so that rows that cut one
    file share them.

    Raises:
      UserError: no folder or table, unknown or missing columns, a value that cannot be read, a path outside the
        folder, or an id that comes twice; the message names the row.
    """
    root, table = pathlib.Path(audio_dir).absolute(), pathlib.Path(captions_file)
    if not root.is_dir():
        raise UserError(f"audio folder {root} does not exist")
    found: list[Clip] = []
    row_of: dict[str, str] = {}
    for where, row in _rows(table):
        clip = _clip(root, row, f"{table} {where}", source)
        if clip.id in row_of:
            raise UserError(
                f"{table}: id {clip.id!r} is in {row_of[clip.id]} and in {where}; give one an id of its own"
            )
        row_of[clip.id] = where
        found.append(clip)
    if not found:
        raise UserError(f"captions file {table} has no rows")
    splits: dict[str, str] = {}
    for clip in found:
        if splits.setdefault(clip.group, clip.split) != clip.split:
            other = splits[clip.group]
            raise UserError(
                f"{table} {row_of[clip.id]}: group {clip.group!r} is in {clip.split} here and in {other} before; "
                "one group, one split"
            )
    return found


def _rows(table: pathlib.Path) -> Iterator[tuple[str, dict]]:
    try:
        text = table.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"captions file {table} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"captions file {table} is not UTF-8 at byte {error.start}") from None
    if table.suffix.lower() == ".csv":
        yield from _csv_rows(table, text)
    elif table.suffix.lower() in (".jsonl", ".ndjson"):
        yield from _json_rows(table, text)
    else:
        raise UserError(f"captions file {table} must end in .csv or .jsonl")


def _csv_rows(table: pathlib.Path, text: str) -> Iterator[tuple[str, dict]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        _check_keys(reader.fieldnames or [], f"{table} header")
        for row in reader:
            where = f"line {reader.line_num}"
            if None in row or None in row.values():
                raise UserError(f"{table} {where} does not have {len(reader.fieldnames)} columns")
            yield where, {key.strip(): value for key, value in row.items()}
    except csv.Error as error:
        raise UserError(f"{table} line {reader.line_num} is not CSV: {error}") from None


def _json_rows(table: pathlib.Path, text: str) -> Iterator[tuple[str, dict]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{table} line {number} is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise UserError(f"{table} line {number} is not a JSON object")
        _check_keys(list(row), f"{table} line {number}")
        yield f"line {number}", {key: value for key, value in row.items() if value is not None}


def _check_keys(keys: list[str], where: str) -> None:
    keys = [key.strip() for key in keys]
    known = [
        key for key in keys if key in _PLAIN_KEYS or key == "license" or re.fullmatch(r"caption_\d|label_\w+", key)
    ]
    unknown = [key for key in keys if key not in known]
    if unknown or not set(_PATH_KEYS) & set(keys):
        problem = f"unknown column {unknown[0]!r}" if unknown else "no column for the file"
        raise UserError(f"{where}: {problem}; expected {_EXPECTED}")


def _clip(root: pathlib.Path, row: Mapping, where: str, source: str) -> Clip:
    name = next((str(row[key]).strip() for key in _PATH_KEYS if row.get(key)), "")
    path = _inside(root, name, where)
    relpath = path.relative_to(root).as_posix()
    start = _seconds(row, "start", where) or 0.0
    duration = _seconds(row, "duration", where)
    if duration == 0.0:
        raise UserError(f"{where}: duration is 0; leave it empty for the whole file")
    split = str(row.get("split") or "train").strip()
    if split not in SPLITS:
        raise UserError(f"{where}: split {split!r} is not one of {', '.join(SPLITS)}")
    cut = f"#{start:g}" if start or duration else ""
    return Clip(
        id=f"{source}:{row.get('id') or relpath + cut}",
        source=source,
        recording=f"{source}:{row.get('recording') or relpath}",
        audio_path=str(path),
        start_s=start,
        duration_s=duration,
        captions=_captions(row, where),
        tags=_texts(row.get("tags"), "tags", where, separator=";"),
        labels={
            key.removeprefix("label_"): str(row[key]) for key in row if key.startswith("label_") and row[key] != ""
        },
        split=split,
        group=str(row.get("group") or row.get("recording") or relpath),
        license=str(row.get("license") or ""),
    )


def _inside(root: pathlib.Path, name: str, where: str) -> pathlib.Path:
    if not name:
        raise UserError(f"{where}: the file name is empty")
    path = pathlib.Path(os.path.normpath(root / name))
    if "\0" in name or not path.is_relative_to(root) or not path.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{where}: {name!r} lies outside the audio folder {root}")
    return path


def _seconds(row: Mapping, key: str, where: str) -> float | None:
    value = row.get(key)
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise UserError(f"{where}: {key} {value!r} is not a number of seconds")
    return seconds


def _captions(row: Mapping, where: str) -> tuple[str, ...]:
    texts = list(_texts(row.get("captions"), "captions", where))
    for key in ("caption", *(f"caption_{n}" for n in range(10))):
        texts += _texts(row.get(key), key, where)
    return tuple(dict.fromkeys(texts))


def _texts(value: object, key: str, where: str, separator: str = "") -> tuple[str, ...]:
    """Texts of a cell or list; line breaks and runs of blanks become one blank, empty texts are dropped."""
    if value is None:
        return ()
    if isinstance(value, str):
        value = value.split(separator) if separator else [value]
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise UserError(f"{where}: {key} must be text or a list of texts")
    return tuple(text for text in (" ".join(text.split()) for text in value) if text)
