"""Counts as people write them: 400k, 1m, 10M."""

import re

from alp_jax.core.errors import UserError

_SCALE = {"": 1, "k": 10**3, "m": 10**6}


def parse_count(text: str | int) -> int:
    """``400k`` -> 400000, ``1.5m`` -> 1500000, ``2048`` -> 2048; raises UserError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([km]?)", str(text).strip().lower())
    value = float(match[1]) * _SCALE[match[2]] if match else 0.0
    if value < 1 or value != round(value):
        raise UserError(f"{text!r} is not a count: write 400k, 1m or a whole number")
    return round(value)


def format_count(value: int) -> str:
    """400000 -> ``400k``, 1500000 -> ``1500k``, 1234 -> ``1234``."""
    for suffix in ("m", "k"):
        if value and value % _SCALE[suffix] == 0:
            return f"{value // _SCALE[suffix]}{suffix}"
    return str(value)
