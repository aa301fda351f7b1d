"""Interprets a cell of a user's table: nothing, a text, or a list that a program has printed."""

import ast
import io
import json
import re
import tokenize

from alp_jax.corpora.rows import BadRow

# what pandas reads as an empty cell, since programs write these words for a missing value
EMPTY = frozenset(
    (
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"),
        *("NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    )
)
_LONGEST_LIST = 1 << 20  # characters
_OPENS = {"[": "]", "(": ")"}
_ARRAY = "array("
# what follows a quoted part of a sentence instead of a comma: ["Hi!" he said. "Bye!"]
_WORDS = re.compile(r"[,.;:!?]?\s+[^\[\]]*[^\W\d_][^\[\]]*")
_SKIPPED = (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


def empty(value: object) -> bool:
    """Whether a cell is empty: null, NaN, no text, or a word that stands for a missing value."""
    if isinstance(value, str):
        return value.strip() in EMPTY
    return value is None or (isinstance(value, float) and value != value)


def listed(value: object, name: str, separator: str = "") -> list:
    """The values of a cell: those of a list, those of a list printed as text, or the single value in it.

    Lists as Python, JSON and numpy print them are read: ``['a', 'b']``, ``["a", null]``, ``['a' 'b']``,
    ``array(['a'], dtype=object)``. A text that merely begins with a bracket (``[music] plays``) stays a text.

    Args:
      name: of the column, for errors.
      separator: what else separates the values in a text; "" for nothing.

    Raises:
      BadRow: a printed list is cut short or damaged.
    """
    if isinstance(value, list | tuple):
        return [one for one in value if not empty(one)]
    if empty(value):
        return []
    if not isinstance(value, str):
        return [value]
    values = printed_list(value, name)
    if values is None:
        values = value.split(separator) if separator else [value]
    return [one for one in values if not empty(one)]


def printed_list(text: str, name: str = "cell") -> list[str] | None:
    """The texts of a list printed as ``text``; None if it is not a printed list. BadRow: see ``listed``."""
    inner = text.strip()
    if inner.startswith(_ARRAY) and inner.endswith(")"):  # array([...], dtype=object)
        inner = inner[len(_ARRAY) : inner.rfind("]") + 1]
    if len(inner) < 2 or _OPENS.get(inner[0]) != inner[-1]:
        return None
    body = inner[1:-1].strip()
    if inner[0] == "[" and (texts := _json(inner)) is not None:  # tried first, since JSON has other escapes than Python
        return texts
    texts = _strings(body) if len(body) <= _LONGEST_LIST else None
    if texts is None and inner[0] == "[" and body[0] in "'\"" and body[-1] in "'\"." and not _sentence(body):
        raise BadRow("bad_record", f"{name} is a printed list that cannot be read: {text.strip()[:60]}")
    return texts if texts or inner[0] == "[" else None


def _json(text: str) -> list[str] | None:
    """The texts of a JSON list of texts and empty values; None for anything else."""
    try:
        values = json.loads(text) if len(text) <= _LONGEST_LIST else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, list) or not all(isinstance(one, str) or empty(one) for one in values):
        return None
    return [one for one in values if isinstance(one, str)]


def _sentence(body: str) -> bool:
    """Whether words stand between or after the quoted parts of ``body``, and every quote is closed."""
    parts = body.split(body[0])
    if len(parts) % 2 == 0:
        return False
    between = [part for part in parts[2:-1:2] if _WORDS.fullmatch(part) and part[-1].isspace()]
    return bool(between) or bool(_WORDS.fullmatch(parts[-1]))


def _strings(body: str) -> list[str] | None:
    """The string literals of ``body``, with commas or white space between them; None for anything else.

    They are parsed one by one: numpy prints lists without commas, and Python would join adjacent literals into one.
    """
    texts = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(body.replace("\n", " ")).readline):
            if token.type == tokenize.STRING:
                text = ast.literal_eval(token.string)
                if not isinstance(text, str):
                    return None
                texts.append(text)
            elif token.type == tokenize.NAME and token.string in EMPTY:
                continue
            elif token.type not in _SKIPPED and token.string != ",":
                return None
    except (tokenize.TokenError, SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    return texts
