"""Every setting of a set of runs, spelled out with the comments of the configuration schema."""

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator
from typing import Any

from alp_jax.config import RunConfig


def setting_rows(configs: list[dict[str, Any]]) -> list[dict[str, str]]:
    """``name``, ``value`` and ``meaning`` of every setting; values that differ between runs are all listed."""
    meanings = _meanings(RunConfig, "")
    flat = [dict(flatten(config)) for config in configs]
    rows = []
    for name in sorted({name for one in flat for name in one}):
        values = list(dict.fromkeys(_show(one[name]) for one in flat if name in one))
        rows.append(
            {"name": name, "value": " | ".join(values), "meaning": meanings.get(name, ""), "varies": len(values) > 1}
        )
    return rows


def flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(``a.b.c``, value) of nested dictionaries."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _show(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_show, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _meanings(kind: type, prefix: str) -> dict[str, str]:
    """The comment behind each field in the source of the dataclass."""
    comments = dict(re.findall(r"^    (\w+):[^#\n]*#\s*(.+)$", inspect.getsource(kind), flags=re.M))
    found = {}
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            found |= _meanings(hint, f"{prefix}{name}.")
        elif name in comments:
            found[prefix + name] = comments[name]
    return found
