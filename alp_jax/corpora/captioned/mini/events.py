"""Sound event classes from the words of a file's name.

``sounds.json`` holds, in ``events``, class -> its name in captions and the words that mean it; the first class in
order that has a word wins, so specific classes come before general ones. The words were read off the names of the
packages' files; nobody listened to the files, so the labels are as good as the names. ``toys`` are words that make a
name mean something else (a paper airplane); ``read_as`` writes the codes in file names out as English.
"""

import functools
import re

from alp_jax.corpora.captioned.mini.item import table

_COMPOUND = re.compile(
    r"^(break|female|male|civfem|civmale|alien|arctic|small|blood|shotgun|sniper|portal|grenade|melon|grave|jetpack|rope"
    r"|throw|power|radio|body|human|spider)(?=[a-z]{3})"
)


@functools.cache
def _class_of() -> dict[str, str]:
    class_of: dict[str, str] = {}
    for name, entry in table("sounds")["events"].items():
        for word in entry["words"].split():
            class_of.setdefault(word, name)
    return class_of


def words_of(name: str) -> list[str]:
    """Lower-case words of a file name: ``LRBark_1_LA_cut`` -> ``lr bark la cut``; digits separate."""
    name = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", name)
    return re.sub(r"[^A-Za-z]+", " ", name).lower().split()


def readable(words: list[str]) -> str:
    """File name words as English: compounds split, codes written out, repeats dropped."""
    read_as = table("sounds")["read_as"]
    split = (word if word in read_as else _COMPOUND.sub(r"\1 ", _COMPOUND.sub(r"\1 ", word)) for word in words)
    read = " ".join(read_as.get(word, word) for word in " ".join(split).split())
    return " ".join(dict.fromkeys(read.split()))


def classify(words: list[str]) -> str:
    """The event class of a list of words, or an empty text."""
    if set(table("sounds")["toys"].split()).intersection(words):
        return ""
    order = list(table("sounds")["events"])
    split = " ".join(_COMPOUND.sub(r"\1 ", word) for word in words).split()
    classes = {_class_of()[word] for word in [*words, *split] if word in _class_of()}
    return min(classes, key=order.index) if classes else ""
