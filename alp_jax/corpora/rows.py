"""Turns a row of published metadata into a clip, or into the reason why it is none."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from alp_jax.core.clip import Rejected

T, Made = TypeVar("T"), TypeVar("Made")


class BadRow(Exception):
    """A row that cannot become a clip; ``reason`` is a key of ``core.clip.REJECTIONS``."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


def to_clips(
    where: str, rows: Iterable[tuple[int, T] | Rejected], make: Callable[..., Made], *facts: object
) -> Iterator[Made | Rejected]:
    """The clip ``make(row, *facts)`` of every row; ``where`` and its number locate a row that is rejected."""
    for row in rows:
        if isinstance(row, Rejected):
            yield row
            continue
        try:
            yield make(row[1], *facts)
        except BadRow as error:
            yield Rejected(f"{where} {row[0]}", error.reason, error.detail)


def texts(values: Iterable[object], name: str) -> tuple[str, ...]:
    """The texts in their order; runs of white space become one space, empty texts are dropped.

    Raises:
      BadRow: something other than text, or text that UTF-8 cannot hold (half of a surrogate pair).
    """
    kept = []
    for value in values:
        if value is None:
            continue
        if not isinstance(value, str):
            raise BadRow("bad_record", f"{name} is {type(value).__name__}, not text")
        if not value.isascii():
            check_utf8(value, name)
        value = " ".join(value.split())
        if value:
            kept.append(value)
    return tuple(kept)


def tags(values: object, name: str = "tags") -> tuple[str, ...]:
    """``texts`` of a list, each once; nothing if ``values`` is not a list."""
    return tuple(dict.fromkeys(texts(values, name))) if isinstance(values, list) else ()


def captions(values: Iterable[object], name: str = "caption") -> tuple[str, ...]:
    """``texts``, of which at least one must remain. A text that occurs twice is kept twice, as published."""
    kept = texts(values, name)
    if not kept:
        raise BadRow("empty_caption", f"{name} is empty")
    return kept


def check_utf8(text: str, name: str) -> None:
    """Raises BadRow for text that cannot be stored as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) - 0xDC00  # surrogateescape maps an undecodable byte to 0xDC00 + byte
        detail = f"byte 0x{byte:02X} is not UTF-8" if 0x80 <= byte <= 0xFF else "half of a surrogate pair"
        raise BadRow("not_utf8", f"{name}: {detail}") from None


def seconds(value: object, name: str) -> float:
    """A number of seconds, 0 or more; BadRow for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise BadRow("bad_time", f"{name} is {value!r}, not a number of seconds")
    return number


def stated_seconds(value: object) -> float | None:
    """A length that metadata states (``Clip.stated_s``), None for anything but a number of seconds above 0."""
    try:
        number = seconds(value, "duration")
    except BadRow:
        return None
    return number or None


def stretch(start: object, end: object, names: tuple[str, str] = ("start", "end")) -> tuple[float, float]:
    """(start, duration) in seconds of a stretch given by its ends; BadRow unless the end comes after the start."""
    first, last = seconds(start, names[0]), seconds(end, names[1])
    if last <= first:
        raise BadRow("bad_time", f"{names[1]} {last:g} s is not after {names[0]} {first:g} s")
    return first, last - first


def plain(number: float) -> str:
    """A number of seconds as in names of clips and files: without a decimal point if it is whole."""
    return str(int(number)) if number == int(number) else f"{number:.6f}".rstrip("0")


def field(record: dict, name: str, kind: type | tuple = str) -> object:
    """``record[name]``, which must be a ``kind``; BadRow if it is missing or of another type."""
    value = record.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        problem = "is missing" if value is None else f"is {type(value).__name__}"
        raise BadRow("bad_record", f"{name} {problem}")
    return value


def identifier(record: dict, name: str = "id") -> str:
    """A text or whole number that names a recording: not empty, without white space at its ends or path separators."""
    value = str(field(record, name, (str, int)))
    if not value.isascii():
        check_utf8(value, name)
    if not value or value != value.strip() or "/" in value or "\\" in value or "\0" in value:
        raise BadRow("bad_id", f"{name} is {value!r}")
    return value
