"""Turns a misspelt name or a meaningless number into a helpful error message."""

import difflib
from collections.abc import Iterable

from alp_jax.core.errors import UserError


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the known name closest to ``name``, or the whole list when none is close."""
    known = sorted(known)
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {match[0]!r}?)" if match else f" (known: {', '.join(known)})"


def choose(name: str, known: Iterable[str], label: str) -> str:
    """Returns ``name`` when it is known; raises UserError that says what it should have been."""
    known = list(known)
    if name not in known:
        raise UserError(f"unknown {label} {name!r}{nearest(name, known)}")
    return name


def check_positive(where: str, **knobs: float) -> None:
    """Raises UserError for the first of ``knobs`` that is not above 0, as ``<where>.<knob>``."""
    for name, value in knobs.items():
        if not value > 0:
            raise UserError(f"{where}.{name} is {value}; it must be above 0")
