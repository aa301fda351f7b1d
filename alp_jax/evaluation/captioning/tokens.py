"""Words of a caption as the usual evaluation code splits them: lower-case Penn Treebank tokens without punctuation.

That code runs the tokenizer of Stanford CoreNLP 3.4.1 in Java. These rules give the same tokens for captions in plain
English; abbreviations, dates, fractions and web addresses, for which that tokenizer has long lists, may differ.
"""

import re

_DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
# That code turns brackets into names and keeps them: it removes -LRB- and the like, but all is in lower case by then.
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_QUOTES = str.maketrans(
    {"\u2019": "'", "\u2018": "`", "\u201c": '"', "\u201d": '"', "\u2013": "--", "\u2014": "--", "\u2026": "..."}
)
_TOKEN = re.compile(
    r"""
    \d+(?:[.,:]\d+)+            # 3.5, 10,000, 12:30
    | (?:[a-z]\.){2,}           # u.s.
    | (?:mr|mrs|ms|dr|st|vs|etc|prof|jr|sr)\.(?=\s)
    | [^\W_]+(?:[-_/&][^\W_]+)*(?:'[^\W_]+)*   # words, with hyphens and what an apostrophe joins
    | '(?:s|re|ve|ll|d|m)\b
    | \.\.\. | -- | ``
    | \S
    """,
    re.VERBOSE,
)
_ENDINGS = re.compile(r"(.+?)('s|'re|'ve|'ll|'d|'m|n't)")
_SPLIT = {"cannot": ["can", "not"], "gonna": ["gon", "na"], "gotta": ["got", "ta"], "wanna": ["wan", "na"]}


def tokenize(caption: str) -> list[str]:
    """The tokens of a caption; empty if it is only punctuation."""
    tokens = []
    for token in _TOKEN.findall(caption.lower().translate(_QUOTES)):
        tokens += _parts(token)
    return [token for token in tokens if token not in _DROPPED and token != '"']


def _parts(token: str) -> list[str]:
    if token in _BRACKETS:
        return [_BRACKETS[token]]
    if token in _SPLIT:
        return _SPLIT[token]
    ending = _ENDINGS.fullmatch(token)
    return list(ending.groups()) if ending else [token]
