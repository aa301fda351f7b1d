"""Determines what the columns of a user's table mean.

Names are compared regardless of case, with spaces and hyphens as underscores. A meaning has several names, of which the
first that a table has is used: a column ``text`` holds the captions if there is no column ``caption``, and is unknown
otherwise. Unknown columns are an error unless the option ``ignore`` names them.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from alp_jax.core.errors import UserError
from alp_jax.core.names import nearest
from alp_jax.core.progress import say

FILE, CAPTION, LABEL, AUDIO = "file", "caption", "label", "audio"  # AUDIO: sound inside the table
COLUMN_NAMES = {
    FILE: (
        *("file_name", "path", "audio", "filename", "file", "file_path", "filepath", "audio_path", "audio_file"),
        *("audio_filepath", "audio_file_path", "audio_filename", "wav"),
    ),
    "id": ("id",),
    "split": ("split",),
    "tags": ("tags", "tag"),
    "start": ("start", "start_s", "start_time"),
    "end": ("end", "end_s", "end_time"),
    "duration": ("duration", "duration_s"),
    "group": ("group",),
    "recording": ("recording",),
    "license": ("license", "licence"),
}
CAPTIONS = ("caption", "captions", "caption_1 ... caption_99")
OTHER_CAPTIONS = ("text", "texts", "sentence", "description")  # used if none of CAPTIONS is there
EXPECTED = (
    "file_name (or path, audio, filename, audio_path, ...), caption or caption_1, caption_2, ... (or text, sentence, "
    "description), and optionally id, split, tags, start, end, duration, label_<task>, group, recording, license"
)
ALL = "*"
_NUMBERED = re.compile(r"captions?_?(\d{1,2})")
_LABEL = re.compile(r"label_(\w+)", re.IGNORECASE)
_FIRST = re.compile(r"unnamed:_\d+(\.\d+)?")  # pandas' name for a column without one; its index comes first
_INDEX = re.compile(r"__index_level_\d+__")
_SHOWN = 8
_FORMS = 4096  # limit for cached headers, and for names reported once


class Column(NamedTuple):
    """A column in use: its name in the table, its meaning and, for a label, the task."""

    name: str
    meaning: str
    task: str = ""


class NoFile(UserError):
    """No column names the file."""


class Columns:
    """Finds out what columns mean; reports once per table which it ignores."""

    def __init__(self, ignore: str = "", quiet: bool = False):
        """``ignore`` is the option: names separated by commas or semicolons, or ``*`` for all unknown ones."""
        self._quiet = quiet
        self._ignored = {normalised(name) for name in re.split("[,;]", ignore) if name.strip()}
        self._known: dict[tuple, tuple[list[Column], list[str]]] = {}
        self._said: set[tuple[str, str]] = set()

    def of(self, names: Sequence[str], table: str, where: str, inside: str = "", aside: Sequence[str] = ()):
        """The columns of a table to use, captions in the order of their numbers.

        Args:
          names: those in the table, first to last.
          table: name under which messages about the table appear, once each.
          where: what errors call the table.
          inside: the column that holds audio; "": a column of file names is required.
          aside: columns of the table's format that are of no use here.

        Raises:
          NoFile: no column names the file.
          UserError: two columns have one name, or one is unknown.
        """
        key = (tuple(names), inside)
        if key not in self._known:
            if len(self._known) == _FORMS:  # the objects use data as keys
                self._known.clear()
            self._known[key] = self._find(names, where, inside, aside)
        used, left = self._known[key]
        left = [name for name in left if (table, name) not in self._said]
        if left and not self._quiet and len(self._said) < _FORMS:
            self._said |= {(table, name) for name in left}
            say(f"{table}: ignored: {', '.join(left)}")
        return used

    def _find(self, names, where, inside, aside) -> tuple[list[Column], list[str]]:
        own = {}  # normalised name -> name, without those to ignore
        left = []
        for number, name in enumerate(names):
            plain = normalised(name) or f"unnamed:_{number}"
            name = name if name.strip() else f"Unnamed: {number}"
            index = _INDEX.fullmatch(plain) or (not number and _FIRST.fullmatch(plain))
            beside = inside and plain != inside and plain in COLUMN_NAMES[FILE]  # repeats the name of the audio inside
            if index or beside or plain in self._ignored or plain in aside:
                left.append(name)
            elif plain in own:
                raise UserError(f"{where}: two columns are called {own[plain]!r}; rename or remove one")
            else:
                own[plain] = name
        used, unknown = _meanings(own, inside)
        if ALL in self._ignored:
            left += unknown
            unknown = []
        if unknown or not _has_file(used):
            kind = UserError if _has_file(used) else NoFile
            raise kind(f"{where}: {_problem(names, used, unknown)}; expected {EXPECTED}")
        return used, left


def normalised(name: str) -> str:
    """A column's name in the form in which names are compared."""
    return re.sub(r"[\s\-]+", "_", name.strip().lstrip("\ufeff").casefold())


def known(names: Sequence[str]) -> int:
    """How many of the columns have a known meaning."""
    return len(_meanings({normalised(name): name for name in names}, "")[0])


def _meanings(own: Mapping[str, str], inside: str) -> tuple[list[Column], list[str]]:
    """(columns with a meaning, names of the others)"""
    used: dict[str, Column] = {}
    for meaning, synonyms in COLUMN_NAMES.items():
        name = next((name for name in synonyms if name in own and name != inside), None)
        if name is not None and not (meaning == FILE and inside):
            used[name] = Column(own[name], meaning)
    if inside:
        used[inside] = Column(own.get(inside, inside), AUDIO)
    numbered = sorted((int(match[1]), name) for name in own if (match := _NUMBERED.fullmatch(name)))
    captions = [name for name in ("captions", "caption") if name in own] + [name for _, name in numbered]
    captions = captions or [name for name in OTHER_CAPTIONS if name in own][:1]
    used |= {name: Column(own[name], CAPTION) for name in captions}
    for name in own:
        if name not in used and (match := _LABEL.fullmatch(own[name].strip())):
            used[name] = Column(own[name], LABEL, match[1])
    return list(used.values()), [own[name] for name in own if name not in used]


def _has_file(used: Sequence[Column]) -> bool:
    return any(column.meaning in (FILE, AUDIO) for column in used)


def _problem(names: Sequence[str], used: Sequence[Column], unknown: Sequence[str]) -> str:
    """What is wrong with the columns of a table, and what to type to fix it."""
    if not _has_file(used):
        near = nearest(unknown[0], COLUMN_NAMES[FILE]) if len(unknown) == 1 else ""
        there = f", only {', '.join(repr(name) for name in names[:_SHOWN])}" if names else ""
        return f"no column for the file{there}{near if 'did you' in near else ''}"
    shown = ", ".join(repr(name) for name in unknown[:_SHOWN])
    shown += f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
    captioned = any(column.meaning == CAPTION for column in used)
    near = nearest(unknown[0], [*COLUMN_NAMES, *OTHER_CAPTIONS, "caption"]) if len(unknown) == 1 else ""
    hint = near if "did you" in near else ""
    if not captioned:
        hint += "; none is for captions"
    many = len(unknown) > _SHOWN or any("," in name or ";" in name for name in unknown)
    option = shlex.quote("ignore=" + (ALL if many else ",".join(name.strip() for name in unknown)))
    columns = "unknown column" if len(unknown) == 1 else "unknown columns"
    return f"{columns} {shown}{hint}; to ignore {'it' if len(unknown) == 1 else 'them'}: --option {option}"
