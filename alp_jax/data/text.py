"""One normal form for captions, by which two captions count as the same text."""

import re
import unicodedata

_NOT_WORD = re.compile(r"[^\w]+")


def normalise(caption: str) -> str:
    """NFKC, case folded, everything but letters, digits and underscore as single spaces."""
    return _NOT_WORD.sub(" ", unicodedata.normalize("NFKC", caption).casefold()).strip()
