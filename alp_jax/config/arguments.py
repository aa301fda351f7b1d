"""The short argument string of a config file: ``objective=contrastive,pairs=400k``."""

import difflib
import re
from collections.abc import Iterable

from alp_jax.config.errors import ConfigError

_SCALE = {"": 1, "k": 10**3, "m": 10**6}


def parse_count(text: str) -> int:
    """``400k`` -> 400000, ``1.5m`` -> 1500000, ``2048`` -> 2048, ``all`` -> 0; anything else is a ConfigError."""
    if text == "all":
        return 0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([km]?)", text.strip().lower())
    value = float(match[1]) * _SCALE[match[2]] if match else 0.0
    if value < 1 or value != round(value):
        raise ConfigError(f"{text!r} is not a count: write 400k, 1m, a whole number, or all")
    return round(value)


def format_count(value: int) -> str:
    """400000 -> ``400k``, 1500000 -> ``1500k``, 1234 -> ``1234``, 0 -> ``all``."""
    if value == 0:
        return "all"
    for suffix in ("m", "k"):
        if value % _SCALE[suffix] == 0:
            return f"{value // _SCALE[suffix]}{suffix}"
    return str(value)


def choose(name: str, known: Iterable[str], label: str) -> str:
    """Returns ``name`` when it is known; a ConfigError names the nearest known one otherwise."""
    known = list(known)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
        raise ConfigError(f"unknown {label} {name!r} (nearest: {close[0]!r}; known: {', '.join(known)})")
    return name


def parse_arguments(text: str | None, defaults: dict[str, str]) -> dict[str, str]:
    """Splits ``key=value,key=value`` over ``defaults``; unknown or repeated keys are ConfigErrors."""
    values = dict(defaults)
    seen = set()
    for part in filter(None, (text or "").split(",")):
        key, equals, value = part.partition("=")
        choose(key, defaults, "config argument")
        if not equals or not value:
            raise ConfigError(f"config argument {part!r}: write {key}=VALUE")
        if key in seen:
            raise ConfigError(f"config argument {key!r} is given twice")
        seen.add(key)
        values[key] = value
    return values
