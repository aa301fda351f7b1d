"""A small seeded template grammar: many surface forms for the same facts.

``[a|b|]`` chooses one of the alternatives (which may nest), ``{name}`` is a fact. A template takes part only when
every fact it names is known, so the richer templates are used where a package says more.
"""

import random
import re
from collections.abc import Mapping, Sequence

from alp_jax.core.hashing import hash64

_SLOT = re.compile(r"\{(\w+)\}")
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_AN = re.compile(r"\b([Aa]) (?=[\"']?[aeioAEIO]|[\"']?u(?!ni|ku|se|ti|sb|k\b|fo))")


def slots(template: str) -> set[str]:
    """The facts a template names."""
    return set(_SLOT.findall(template))


def expand(templates: Sequence[str], facts: Mapping[str, str], key: str) -> str:
    """One surface form of one template whose facts are all known, chosen by a hash of ``key``; empty when none is."""
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
