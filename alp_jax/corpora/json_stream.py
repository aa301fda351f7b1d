"""Records of a JSON file of any size, one at a time: a list of objects, or an object that holds the list."""

import json
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence

from alp_jax.core.clip import Rejected
from alp_jax.core.errors import UserError
from alp_jax.corpora import tables
from alp_jax.corpora.rows import BadRow, check_utf8

_CHUNK = 1 << 20  # characters read at a time
_LONGEST = 64 << 20  # characters of one value; no published file comes near
_BLANKS = re.compile(r"[ \t\r\n]*")
_ESCAPED_BYTES = re.compile("[\udc80-\udcff]")


def json_rows(path: pathlib.Path, member: str = "", required: Sequence[str] = (), unique: bool = False) -> Iterator:
    """(record number from 1, object) of every record; memory holds one chunk of the file.

    Args:
      member: the key whose value is the list; "" if the file itself is the list.
      required: keys that the first record must have.
      unique: reject objects that have a key twice.

    Yields:
      Rejected for a record that is not an object or has bytes that are not UTF-8.

    Raises:
      UserError: not JSON or another structure, with the number of the record before which reading stopped.
    """
    with tables.open_text(path) as file:
        reader, number = _Reader(file, tables.once if unique else None), 0
        try:
            if member:
                reader.expect("{")
                while reader.key() != member:
                    reader.value()
                    reader.expect(",")
            for record, raw in reader.parts("[", "]", reader.value):
                number += 1
                try:
                    if not raw.isascii() and _ESCAPED_BYTES.search(raw):
                        check_utf8(raw, "record")
                    if isinstance(record, tables.Repeated):
                        raise BadRow("bad_json", f"the key {record!s} appears twice")
                    if not isinstance(record, dict):
                        raise BadRow("bad_json", "not a JSON object")
                except BadRow as error:
                    yield Rejected(f"{path} record {number}", error.reason, error.detail)
                    continue
                if number == 1:
                    tables.check_keys(path, record, required)
                yield number, record
            if not member and reader.peek():
                raise ValueError(f"{reader.peek()!r} follows the list")
        except (ValueError, RecursionError, OSError, EOFError) as error:
            shape = f'{{"{member}": [{{...}}, ...]}}' if member else "[{...}, ...]"
            raise UserError(f"{path} is not JSON of the form {shape}: {error}, after record {number}") from None


def json_members(path: pathlib.Path, required: Sequence[str] = ()) -> Iterator:
    """(number from 1, (key, object)) of every member of a file that is one object; memory holds one chunk of it.

    Args:
      required: keys that the first member's object must have.

    Yields:
      Rejected for a member that is not an object.

    Raises:
      UserError: not JSON or another structure, with the number of the member before which reading stopped.
    """
    with tables.open_text(path) as file:
        reader, number = _Reader(file), 0
        try:
            for key, record in reader.parts("{", "}", reader.member):
                number += 1
                if not isinstance(record, dict):
                    yield Rejected(f"{path} record {number}", "bad_json", "not a JSON object")
                    continue
                if number == 1:
                    tables.check_keys(path, record, required)
                yield number, (key, record)
        except (ValueError, RecursionError, OSError, EOFError) as error:
            raise UserError(
                f'{path} is not JSON of the form {{"name": {{...}}, ...}}: {error}, after record {number}'
            ) from None


class _Reader:
    """Takes values from the front of a text that is read chunk by chunk."""

    def __init__(self, file, pairs_hook=None):
        self._file, self._text, self._at = file, "", 0
        self._decode = json.JSONDecoder(object_pairs_hook=pairs_hook).raw_decode

    def _more(self) -> bool:
        chunk = self._file.read(_CHUNK)
        self._text, self._at = self._text[self._at :] + chunk, 0
        return bool(chunk)

    def peek(self) -> str:
        """The next character that is not white space, "" at the end."""
        while True:
            self._at = _BLANKS.match(self._text, self._at).end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def expect(self, mark: str) -> None:
        if self.peek() != mark:
            raise ValueError(f"{mark!r} expected, found {self.peek()!r}")
        self._at += 1

    def value(self) -> tuple[object, str]:
        """The next JSON value and its text; ValueError if there is none."""
        self.peek()
        while True:
            text, at = self._text, self._at
            try:
                value, end = self._decode(text, at)
                if end == len(text) and self._more():  # a number may continue in the next chunk
                    continue
                self._at += end - at
                return value, text[at:end]
            except json.JSONDecodeError as error:
                if len(self._text) - self._at > _LONGEST or not self._more():
                    raise ValueError(error.msg) from None

    def key(self) -> object:
        """The next key of an object."""
        key = self.value()[0]
        self.expect(":")
        return key

    def member(self) -> tuple[object, object]:
        return self.key(), self.value()[0]

    def parts(self, opening: str, closing: str, take: Callable[[], tuple]) -> Iterator[tuple]:
        """Yields ``take()`` for every part of the list or object that comes next, and consumes its closing bracket."""
        self.expect(opening)
        more = self.peek() != closing
        while more:
            yield take()
            more = self.peek() != closing
            if more:
                self.expect(",")
        self.expect(closing)
