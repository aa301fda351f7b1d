"""Data settings of a run as ``KEY=VALUE`` texts, for commands that look at data without a whole configuration."""

import math
import typing
from collections.abc import Sequence
from typing import Any

from alp_jax.config.arguments import parse_count
from alp_jax.config.errors import ConfigError
from alp_jax.config.resolve import from_dict, to_dict
from alp_jax.config.schema import CHOSEN_WIDTHS, DataConfig

_AUTO = "auto"  # lengths or widths that are chosen
_WHOLE = {name for name, hint in typing.get_type_hints(DataConfig).items() if hint == tuple[int, ...]}


def data_settings(items: Sequence[str], data: DataConfig) -> DataConfig:
    """``data`` with ``KEY=VALUE`` items; ConfigError names the nearest key or the value."""
    values = to_dict(data)
    for item in items:
        key, equals, text = item.partition("=")
        if not equals:
            raise ConfigError(f"{item!r} is not KEY=VALUE")
        values[key] = _value(key, text, values.get(key))
    return from_dict(DataConfig, values, "config.data")


def _value(key: str, text: str, like: Any) -> Any:
    """``text`` as a value of the kind that ``like`` is."""
    if key == "pairs":
        return parse_count(text)
    try:
        if isinstance(like, list):
            number = int if key in _WHOLE else _finite
            if text == _AUTO:
                return list(CHOSEN_WIDTHS) if key == "text_widths" else []
            return [number(part) for part in text.strip("()").split(",") if part.strip()]
        if isinstance(like, float):
            return _finite(text)
        return int(text) if isinstance(like, int) else text
    except ValueError:
        raise ConfigError(f"config.data.{key} = {text!r} is not a number") from None


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value
