"""Your own audio: a folder of files and a table of captions, or containers that hold both.

A table is CSV (with commas, semicolons, tabs or bars), JSON, JSON lines or parquet; text may be gzipped. Its columns or
keys: ``file_name`` relative to the folder; ``caption`` or ``caption_1``, ``caption_2``, ... (a cell may hold a list,
also a printed one); optional ``id``, ``split``, ``tags`` (separated by semicolons, or a list), ``start``, ``end`` or
``duration`` (seconds), ``label_<task>``, ``group``, ``recording``, ``license``. ``columns.py`` lists the other names
that are understood. If neither a column nor the name of the table states the split, whole groups are split by
``splits.SplitRule``. Several rows for one stretch of one file become one clip with the captions of all of them.

Containers are read where they lie: parquet files with a column of audio bytes, as the HF datasets library writes them,
and webdataset tar files, as LAION publishes them.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence

from alp_jax.core.clip import SPLITS, Clip, Rejected
from alp_jax.core.errors import UserError
from alp_jax.core.progress import say
from alp_jax.corpora.audio_files import Spelt, below, composed
from alp_jax.corpora.captioned.folder import columns, parquets, shards, tables, tars
from alp_jax.corpora.captioned.folder.cells import listed
from alp_jax.corpora.captioned.folder.columns import Columns
from alp_jax.corpora.captioned.folder.join import Place, joined
from alp_jax.corpora.captioned.folder.tables import Row
from alp_jax.corpora.corpus import SPLIT_WORDS, Clips, Corpus, Option, split_words
from alp_jax.corpora.rows import BadRow, check_utf8, plain, seconds, stretch, tags, texts
from alp_jax.corpora.splits import SEED, SHARES, UNITS, Assigned, SplitRule

_SAME_S = 0.01  # by how much an end and a duration may disagree


def clips(
    metadata: Sequence[pathlib.Path],
    audio: pathlib.Path | None = None,
    split: str | None = None,
    source: str = "folder",
    ignore: str = "",
    shares: str = SHARES,
    split_seed: str = SEED,
) -> Clips:
    """One clip for each stretch of a file that rows name, in file order; a clip of several rows comes at its last one.

    A row without captions is kept (it may carry labels); a file that does not exist is kept too, and
    the builder counts it. The split is that of the row or, if the cell is empty, the one in the name of the table, or
    ``train``; if the table has no column for it and its name states none, ``split_rule`` decides. The default recording
    and group are the path, so that rows that cut one file share them. A group belongs to the split of its first row.
    Tables that state splits are read first, then those with groups: what they say about a group or file also holds for
    the others.

    Args:
      ignore: columns to ignore, separated by commas or semicolons; ``*`` for all unknown ones.

    Raises:
      UserError: an unknown or missing column, a table of an unknown kind, or one without rows.
    """
    paths = shards.files(metadata)
    for path in paths:
        tables.suffix(path)  # before any is read
    make = _Rows(audio, split, source, shards.top(paths))
    known = Columns(ignore)

    def rows() -> Iterator[Row | Rejected]:
        rules = {path: _rule_of(path, known, split, shares, split_seed) for path in paths}
        rank = {path: UNITS.index(rule.unit) if rule else -1 for path, rule in rules.items()}
        units = {rule and rule.unit for rule in rules.values()}
        fixed = not any(tables.suffix(path) in tables.OBJECTS for path in paths)  # no later row has another unit
        make.assigned = Assigned(alone=units == {None} or (units == {"file"} and fixed))
        for path in sorted(paths, key=rank.get):
            make.begin(path, rules[path])
            yield from _rows(path, known)

    beside = (row for path in paths if tables.suffix(path) != ".tar" for row in _rows(path, known))
    yield from joined(beside, rows(), make.file_and_stretch, make.clip)


def split_rule(
    metadata: Sequence[pathlib.Path],
    split: str | None = None,
    source: str = "folder",
    ignore: str = "",
    shares: str = SHARES,
    split_seed: str = SEED,
) -> SplitRule | None:
    """How the clips of the tables are split; None where ``split``, or the name or the first row of every table, says
    it."""
    known, paths = Columns(ignore, quiet=True), shards.files(metadata)
    rules = [rule for path in paths if (rule := _rule_of(path, known, split, shares, split_seed))]
    if not rules:
        return None
    units = sorted({rule.unit for rule in rules}, key=UNITS.index)
    return dataclasses.replace(rules[0], unit=" or ".join(units), tables=len(rules), of_tables=len(paths))


def _rule_of(path: pathlib.Path, known: Columns, split: str | None, shares: str, seed: str) -> SplitRule | None:
    if split is not None or _split_of(path):
        return None
    first = next((row for row in _rows(path, known) if isinstance(row, Row)), None)
    if first is None or "split" in first.meanings():
        return None
    return SplitRule.of(first.meanings(), shares, seed)


def _rows(path: pathlib.Path, known: Columns) -> Iterator[Row | Rejected]:
    kind, empty = tables.suffix(path), True
    if kind == ".tar":
        rows = tars.rows(path, known)
    else:
        rows = parquets.rows(path, known) if kind == ".parquet" else tables.rows(path, known)
    for row in rows:
        empty = False
        yield row
    if empty:
        raise UserError(f"{path} has no rows")


def _split_of(path: pathlib.Path) -> str:
    """The split stated by a table's name or, for a container, by its folder's name; "" for none."""
    splits = split_words(path.name)
    if not splits and tables.suffix(path) in tables.CONTAINERS:
        splits = split_words(path.absolute().parent.name)
    return splits.pop() if len(splits) == 1 else ""


class _Rows:
    """Turns rows into clips. ``top``: the folder to which names of containers are relative."""

    def __init__(self, audio: pathlib.Path | None, split: str | None, source: str, top: str):
        self._root = pathlib.Path(os.path.abspath(audio)) if audio is not None else None
        self._split, self._source, self._top = split, source, top
        self._named, self._rule = "", None
        self._said: set[pathlib.Path] = set()
        self.assigned = Assigned()
        self._resolved = functools.lru_cache(maxsize=1024)(os.path.realpath)
        self._spelt = Spelt()

    def begin(self, path: pathlib.Path, rule: SplitRule | None) -> None:
        """Starts the rows of the table ``path``, whose clips are split by ``rule`` if there is one."""
        self._named, self._rule = _split_of(path), rule
        folder = path.absolute().parent
        if not self._named or self._split:
            return
        if not split_words(path.name):  # the folder states it
            if folder not in self._said:
                say(f"{folder}: split {self._named} by the folder's name, except for rows that state another")
            self._said.add(folder)
        elif self._named != "train" and tables.suffix(path) in tables.TEXT:
            say(f"{path}: split {self._named} by its name, except for rows that state another")

    def file_and_stretch(self, row: Row) -> Place:
        """The file that a row names, in composed Unicode, and the stretch of it."""
        start, duration = _times(row)
        return composed(os.path.normpath(self._name(row))), start, duration

    def clip(self, row: Row) -> Clip:
        cells = row.cells
        if row.container:
            path, relative = row.container, self._inside(row)
        else:
            path, relative = self._beside(self._name(row), self._root or row.folder)
        start, duration = _times(row)
        single = {key: str(cells.get(key, "")).strip() for key in ("id", "recording", "group", "license")}
        labels = {task: str(label).strip() for task, label in row.labels.items()}
        for text in (*single.values(), *labels.values()):
            check_utf8(text, "row")
        group = single["group"] or single["recording"] or relative
        cut = f"#{plain(start)}" if start or duration else ""
        return Clip(
            id=f"{self._source}:{single['id'] or relative + cut}",
            source=self._source,
            recording=f"{self._source}:{single['recording'] or relative}",
            audio_path=path,
            start_s=start,
            duration_s=duration,
            captions=_captions(row),
            tags=tags(listed(cells.get("tags"), "tags", ";")),
            labels=labels,
            split=self._split_in(cells.get("split"), single, "" if row.container else relative, group),
            group=group,
            license=single["license"],
            member=row.member,
            # a named recording may be in pieces, and the table does not say where in it a file begins
            recording_start_s=None if single["recording"] else start,
        )

    def _split_in(self, value: object, cells: Mapping[str, str], file: str, group: str) -> str:
        """The split of a row; ``file`` is "" if no other row can name it."""
        if self._split:
            return self._split
        if self._rule and value:
            raise BadRow("bad_record", f"split {value!r}, and the first row has none: give one to every row or to none")
        if self._rule:
            return self.assigned.by_rule(self._rule, cells["group"], cells["recording"], file, group)
        split = SPLIT_WORDS.get(str(value or self._named or "train").strip().lower())
        if split is None:
            known = ", ".join(f"{name} ({', '.join(_words(name))})" for name in SPLITS)
            raise BadRow("bad_record", f"split {value!r} is not one of {known}")
        self.assigned.state(split, group, cells["recording"], file)
        return split

    @staticmethod
    def _name(row: Row) -> str:
        name = row.cells.get(columns.FILE, "")
        if not isinstance(name, str | int):
            raise BadRow("bad_record", f"file name is {type(name).__name__}, not text")
        check_utf8(str(name), "file name")
        return str(name).strip()

    def _inside(self, row: Row) -> str:
        """The name of audio in a container: the container, below the audio folder or the top, and its own name."""
        relative = os.path.relpath(row.container, self._top)
        if self._root is not None and row.container.startswith(os.path.join(self._root, "")):
            relative = os.path.relpath(row.container, self._root)
        check_utf8(relative, "file name")
        return f"{relative}/{row.name}"

    def _beside(self, name: str, root: pathlib.Path | None) -> tuple[str, str]:
        """(absolute path, path relative to the folder); BadRow when links or dots lead out of the folder."""
        path = below(root, name)
        if root is None:
            return "", os.path.normpath(name)
        relative = os.path.relpath(path, root)
        path = os.path.join(root, self._spelt.on_disk(str(root), relative))
        folder, last = os.path.split(path)
        real = os.path.join(self._resolved(folder), last)
        if os.path.islink(path):
            real = os.path.realpath(path)
        if not real.startswith(os.path.join(self._resolved(str(root)), "")):
            raise BadRow("outside_folder", f"{name!r} lies outside {root}")
        return path, relative


def _words(split: str) -> list[str]:
    return [word for word, meaning in SPLIT_WORDS.items() if meaning == split and word != split]


def _times(row: Row) -> tuple[float, float | None]:
    """Start and length in seconds; the length is None if neither it nor an end is stated."""
    cells = row.cells
    start = seconds(cells.get("start", 0.0), "start")
    duration = seconds(cells["duration"], "duration") if "duration" in cells else None
    if duration == 0.0:
        raise BadRow("bad_time", "duration is 0; leave it empty for the whole file")
    if "end" in cells:
        length = stretch(start, cells["end"])[1]
        if duration is not None and abs(duration - length) > _SAME_S:
            raise BadRow("bad_time", f"duration is {duration:g} s, but from start to end it is {length:g} s")
        return start, round(length, 9)
    return start, duration


def _captions(row: Row) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts([text for cell in row.captions for text in listed(cell, "caption")], "caption")))


CORPUS = Corpus(
    name="folder",
    title="your own audio folder with a table of captions, or tar and parquet files that hold both",
    read=clips,
    metadata=f"a {', '.join(tables.TEXT)} (also with .gz), {' or '.join(tables.CONTAINERS)} file, or a folder with it, "
    f"of the columns {columns.EXPECTED}",
    audio="the folder that file_name is relative to; not needed for audio inside tar and parquet files",
    options={
        "source": Option("the source that the clips are counted under", "folder"),
        "ignore": Option("columns to ignore, separated by commas; * for all unknown ones"),
        "shares": Option("percent of train, valid and test clips where the metadata has no split, by group", SHARES),
        "split_seed": Option("a different number puts different groups into each split", SEED),
    },
    split_rule=split_rule,
    containers=tables.CONTAINERS,
)
