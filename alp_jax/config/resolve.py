"""Between dictionaries (command line, config.json) and the frozen dataclasses of ``schema``."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ml_collections

from alp_jax.config import hints
from alp_jax.config.errors import ConfigError
from alp_jax.config.schema import RunConfig


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as nested dictionaries and lists, ready for JSON."""

    def convert(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            return to_dict(value)
        return list(value) if isinstance(value, tuple) else value

    return {field.name: convert(getattr(config, field.name)) for field in dataclasses.fields(config)}


def to_config_dict(config: RunConfig) -> "ml_collections.ConfigDict":
    """The locked ConfigDict that ``get_config`` returns and ``--config.key=value`` overrides."""
    import ml_collections  # here, as it is half of what ``alp VERB --help`` would load

    def convert(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            return {f.name: convert(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return value

    return ml_collections.ConfigDict(convert(config)).lock()


def resolve(values: Mapping[str, Any]) -> RunConfig:
    """Builds the frozen configuration from nested mappings; missing keys take their defaults.

    Raises:
      ConfigError: an unknown key (the nearest known one is named) or a value of the wrong type.
    """
    return from_dict(RunConfig, values)


def from_dict(kind: type, values: Mapping[str, Any], where: str = "config") -> Any:
    """Builds dataclass ``kind`` from ``values``; ``where`` is the dotted path named in errors."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected settings, got {values!r}")
    types_of = typing.get_type_hints(kind)
    for key in values:
        if key not in types_of:
            raise ConfigError(hints.unknown(f"{where}.{key}"))
    return kind(**{key: _convert(types_of[key], value, f"{where}.{key}") for key, value in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise ConfigError(f"{where}: expected {len(arguments)} values, got {len(value)}")
        return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _convert(next(a for a in arguments if a is not type(None)), value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r}")
    return value
