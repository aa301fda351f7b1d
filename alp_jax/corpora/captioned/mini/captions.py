"""One to four captions per clip: what a person wrote, a tag list, an attribute-rich sentence, and a paraphrase.

The sentences come from a small seeded grammar (``captions.json``), many surface forms for the same facts: ``[a|b|]``
chooses one of the alternatives (which may nest), ``{name}`` is a fact. A template is used only if every fact it names
is known, so richer templates apply where a package states more.
"""

import random
import re
from collections.abc import Mapping, Sequence

from alp_jax.core.hashing import hash64
from alp_jax.corpora.captioned.mini.item import Item, table

_SLOT = re.compile(r"\{(\w+)\}")
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_AN = re.compile(r"\b([Aa]) (?=[\"']?[aeioAEIO]|[\"']?u(?!ni|ku|se|ti|sb|k\b|fo))")


def make(item: Item, clip_id: str) -> tuple[str, ...]:
    """The captions of one clip, without repeats, the person's own words first; the same for the same id and facts."""
    templates = table("captions")
    texts = [
        " ".join(item.human.split()),
        ", ".join(item.tags),
        expand(templates["attributes"][item.kind], item.facts, f"{clip_id}/attributes"),
        expand(templates["paraphrase"][item.kind], item.facts, f"{clip_id}/paraphrase"),
    ]
    unique = {" ".join(text.casefold().split()).strip(" ."): text for text in reversed(texts) if text}
    return tuple(reversed(unique.values()))


def length_word(seconds: float) -> str:
    """A length class in words, known from the file header."""
    for limit, word in ((0.5, "very short"), (2.0, "short"), (6.0, "few-second"), (15.0, "medium-length")):
        if seconds < limit:
            return word
    return "long"


def channel_words(sample_rate: int, channels: int) -> str:
    """How the file was recorded, in words: bandwidth and stereo."""
    if sample_rate <= 8000:
        return "telephone quality"
    if sample_rate <= 11025:
        return "low bandwidth"
    if sample_rate <= 22050:
        return "wideband mono" if channels == 1 else "wideband stereo"
    return "full-band mono" if channels == 1 else "full-band stereo"


def slots(template: str) -> set[str]:
    """The facts a template names."""
    return set(_SLOT.findall(template))


def expand(templates: Sequence[str], facts: Mapping[str, str], key: str) -> str:
    """One surface form of one template whose facts are all known, chosen by a hash of ``key``; empty if none is."""
    usable = [template for template in templates if slots(template) <= {name for name, value in facts.items() if value}]
    if not usable:
        return ""
    draw = random.Random(hash64(0, key))
    text = draw.choice(usable)
    while match := _CHOICE.search(text):
        text = text[: match.start()] + draw.choice(match[1].split("|")) + text[match.end() :]
    return tidy(_SLOT.sub(lambda match: facts[match[1]], text))


def tidy(text: str) -> str:
    """One line, single spaces, ``a`` before a vowel made ``an``, first letter upper case."""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"\s+([,.;:!?])", r"\1", text)
    text = re.sub(r"([.!?])([\"']?)\.+$", r"\1\2", text)
    text = _AN.sub(r"\1n ", text)
    return text[:1].upper() + text[1:]
