"""Your own audio: a folder of files and a table of captions, CSV or JSONL.

Columns (CSV) or keys (JSONL): ``file_name`` (or ``path``, ``audio``) relative to the folder; ``caption`` or
``caption_1`` ... ``caption_9`` (JSONL also ``captions``, a list); optional ``id``, ``split``, ``tags`` (separated by
semicolons, or a list), ``start``, ``duration`` (seconds), ``label_<task>``, ``group``, ``recording``, ``license``.
Without a split column whole groups are split by ``splits.SplitRule``.
"""

import functools
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence

from alp_jax.core.clip import SPLITS, Clip, Rejected
from alp_jax.core.errors import UserError
from alp_jax.corpora import tables
from alp_jax.corpora.adapter import Adapter, Clips, Option
from alp_jax.corpora.audio_files import below
from alp_jax.corpora.rows import BadRow, check_utf8, plain, seconds, tags, texts, to_clips
from alp_jax.corpora.splits import OPTIONS, SEED, SHARES, SplitRule

_PATH_KEYS = ("file_name", "path", "audio")
_OTHER_KEYS = {"caption", "captions", "id", "split", "tags", "start", "duration", "group", "recording", "license"}
_PATTERN = re.compile(r"caption_\d|label_\w+")
_EXPECTED = "file_name (or path, audio), caption or caption_1..caption_9, and optionally id, split, tags, start, " \
            "duration, label_<task>, group, recording, license"  # fmt: skip


def clips(
    metadata: Sequence[pathlib.Path],
    audio: pathlib.Path | None = None,
    split: str | None = None,
    source: str = "folder",
    shares: str = SHARES,
    split_seed: str = SEED,
) -> Clips:
    """One clip per row, in file order.

    A row without captions is kept (it may carry labels); a file that does not exist is kept too, the builder counts
    it. An empty split is ``train``; where the first row has none at all, ``split_rule`` decides. The default recording
    and group are the path, so that rows that cut one file share them. A group belongs to the split of its first row.

    Raises:
      UserError: an unknown or missing column, a table of another kind, or one without rows.
    """
    make = _Rows(audio, split, source)
    for path in metadata:
        make.rule = split_rule([path], split, source, shares, split_seed)
        empty = True
        for clip in to_clips(f"{path} line", _rows(path), make.clip):
            empty = False
            yield clip
        if empty:
            raise UserError(f"{path} has no rows")


def split_rule(
    metadata: Sequence[pathlib.Path],
    split: str | None = None,
    source: str = "folder",
    shares: str = SHARES,
    split_seed: str = SEED,
) -> SplitRule | None:
    """How the clips of the tables are split; None where ``split`` or the first row of every table says it."""
    for path in metadata if split is None else ():
        first = next((row[1] for row in _rows(path) if not isinstance(row, Rejected)), None)
        if first is not None and "split" not in first:
            return SplitRule.of(first, shares, split_seed)
    return None


def _rows(path: pathlib.Path) -> Iterator[tuple[int, dict] | Rejected]:
    if path.suffix.lower() == ".csv":
        yield from tables.csv_dicts(path, lambda header: _check_keys(header, f"{path} header"))
    elif path.suffix.lower() in (".jsonl", ".ndjson"):
        for row in tables.jsonl_rows(path):
            if not isinstance(row, Rejected):
                _check_keys(list(row[1]), f"{path} line {row[0]}")
            yield row
    else:
        raise UserError(f"{path} must end in .csv or .jsonl")


def _check_keys(keys: list[str], where: str) -> None:
    keys = [key.strip() for key in keys]
    known = {*_PATH_KEYS, *_OTHER_KEYS}
    unknown = [key for key in keys if key not in known and not _PATTERN.fullmatch(key)]
    if unknown or not set(_PATH_KEYS) & set(keys):
        problem = f"unknown column {unknown[0]!r}" if unknown else "no column for the file"
        raise UserError(f"{where}: {problem}; expected {_EXPECTED}")


class _Rows:
    def __init__(self, audio: pathlib.Path | None, split: str | None, source: str):
        self._root = pathlib.Path(os.path.abspath(audio)) if audio is not None else None
        self._split, self._source = split, source
        self.rule: SplitRule | None = None
        self._split_of: dict[str, str] = {}  # group -> split
        self._resolved = functools.lru_cache(maxsize=1024)(os.path.realpath)

    def clip(self, row: Mapping) -> Clip:
        name = next((str(row[key]).strip() for key in _PATH_KEYS if row.get(key)), "")
        path, relative = self._inside(name)
        start = self._seconds(row, "start") or 0.0
        duration = self._seconds(row, "duration")
        if duration == 0.0:
            raise BadRow("bad_time", "duration is 0; leave it empty for the whole file")
        stated = str(row.get("split") or "").strip()
        if stated and self.rule:
            raise BadRow("bad_record", f"split {stated!r}, and the first row has none: give every row one, or none")
        single = {key: str(row.get(key) or "") for key in ("id", "recording", "group", "license")}
        labels = {
            key.removeprefix("label_"): str(row[key])
            for key in row
            if key.startswith("label_") and row[key] not in ("", None)
        }
        for text in (*single.values(), *labels.values()):
            check_utf8(text, "row")
        group = single["group"] or single["recording"] or relative
        split = self._split or (self.rule.split(group) if self.rule else stated or "train")
        if split not in SPLITS:
            raise BadRow("bad_record", f"split {split!r} is not one of {', '.join(SPLITS)}")
        if self._split_of.setdefault(group, split) != split:
            raise BadRow("group_in_two_splits", f"{group!r} is in {split} here and in {self._split_of[group]} before")
        cut = f"#{plain(start)}" if start or duration else ""
        return Clip(
            id=f"{self._source}:{single['id'] or relative + cut}",
            source=self._source,
            recording=f"{self._source}:{single['recording'] or relative}",
            audio_path=path,
            start_s=start,
            duration_s=duration,
            captions=_captions(row),
            tags=tags(_listed(row.get("tags"), ";")),
            labels=labels,
            split=split,
            group=group,
            license=single["license"],
            recording_start_s=start,
        )

    def _inside(self, name: str) -> tuple[str, str]:
        """(absolute path, path relative to the folder); BadRow when links or dots lead out of the folder."""
        check_utf8(name, "file name")
        root, path = self._root, below(self._root, name)
        if root is None:
            return "", os.path.normpath(name)
        folder, last = os.path.split(path)
        real = os.path.join(self._resolved(folder), last)
        if os.path.islink(path):
            real = os.path.realpath(path)
        if not real.startswith(os.path.join(self._resolved(str(root)), "")):
            raise BadRow("outside_folder", f"{name!r} lies outside {root}")
        return path, os.path.relpath(path, root)

    @staticmethod
    def _seconds(row: Mapping, key: str) -> float | None:
        value = row.get(key)
        return None if value is None or value == "" else seconds(value, key)


def _captions(row: Mapping) -> tuple[str, ...]:
    values = list(_listed(row.get("captions")))
    for key in ("caption", *(f"caption_{n}" for n in range(10))):
        if key in row:
            values += _listed(row[key])
    return tuple(dict.fromkeys(texts(values, "caption")))


def _listed(value: object, separator: str = "") -> list:
    if isinstance(value, str) and separator:
        return value.split(separator)
    return value if isinstance(value, list) else [value]


ADAPTER = Adapter(
    read=clips,
    help="your own audio folder with a table of captions",
    metadata=f"one table, .csv or .jsonl, with {_EXPECTED}",
    audio="the folder that file_name is relative to",
    suffixes=(".csv", ".jsonl", ".ndjson"),
    options={"source": Option("the source that the clips are counted under", "folder"), **OPTIONS},
    split_rule=split_rule,
)
