"""Where two nested settings differ."""

from typing import Any


def first_difference(old: Any, new: Any, where: str = "config") -> tuple[str, Any, Any] | None:
    """The first (dotted name, old value, new value) in which two nested settings differ, or None."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if key not in old or key not in new:
                return f"{where}.{key}", old.get(key), new.get(key)
            difference = first_difference(old[key], new[key], f"{where}.{key}")
            if difference:
                return difference
        return None
    return None if old == new else (where, old, new)
