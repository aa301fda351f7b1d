"""An algebra of lists of runs: a run is a flat dictionary of overrides, a sweep a list of them.

``product``, ``zipped`` and ``chain`` take lists of runs and return new ones; nothing is changed in place.
Keys: ``config`` (the config file), its arguments (``pairs``), settings (``config.optim.lr``), and ``seconds`` (what the
run is expected to take on one device, where that is known from others).
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alp_jax.config.errors import ConfigError

RunSettings = Mapping[str, Any]


def over(key: str, values: Iterable[Any]) -> list[dict[str, Any]]:
    """One run per value: ``over("pairs", ("1k", "4k"))``."""
    return [{key: value} for value in values]


def product(*sides: Sequence[RunSettings]) -> list[dict[str, Any]]:
    """Every run of each side with every run of the others; the last side changes fastest.

    Raises:
      ConfigError: two sides set the same key.
    """
    return [_merge(parts) for parts in itertools.product(*sides)]


def zipped(*sides: Sequence[RunSettings]) -> list[dict[str, Any]]:
    """The first runs of all sides together, the second ones, and so on.

    Raises:
      ConfigError: sides of different lengths, or two that set the same key.
    """
    lengths = [len(side) for side in sides]
    if len(set(lengths)) > 1:
        raise ConfigError(f"zipped sides have {' and '.join(map(str, lengths))} runs: make them equally long")
    return [_merge(parts) for parts in zip(*sides, strict=True)]


def chain(*parts: Iterable[RunSettings]) -> list[dict[str, Any]]:
    """All runs of all parts, in order."""
    return [dict(run) for run in itertools.chain(*parts)]


def _merge(parts: Iterable[RunSettings]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            if key in merged:
                raise ConfigError(f"{key} is set by two sides of a sweep, to {merged[key]!r} and {value!r}")
            merged[key] = value
    return merged
