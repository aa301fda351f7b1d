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
from alp_jax.config.outside import Settings
from alp_jax.config.schema import RunConfig


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as nested dictionaries and lists, ready for JSON."""

    def convert(value: Any) -> Any:
        if dataclasses.is_dataclass(value) or isinstance(value, Settings):
            return to_dict(value)
        return list(value) if isinstance(value, tuple) else value

    return {name: convert(value) for name, value in _items(config)}


def _items(config: Any) -> list[tuple[str, Any]]:
    """Fields by name; settings of an encoder of another distribution only where there are any."""
    if isinstance(config, Settings):
        return list(config.items())
    values = [(field.name, getattr(config, field.name)) for field in dataclasses.fields(config)]
    return [(name, value) for name, value in values if not isinstance(value, Settings) or value]


def to_config_dict(config: RunConfig) -> "ml_collections.ConfigDict":
    """The locked ConfigDict that ``get_config`` returns and ``--config.key=value`` overrides."""
    import ml_collections  # here, as it is half of what ``alp VERB --help`` would load

    def convert(value: Any) -> Any:
        if dataclasses.is_dataclass(value) or isinstance(value, Settings):
            return {name: convert(item) for name, item in _items(value)}
        return value

    return ml_collections.ConfigDict(convert(config)).lock()


def resolve(values: Mapping[str, Any]) -> RunConfig:
    """Builds the frozen configuration from nested mappings; missing keys take their defaults.

    Raises:
      ConfigError: an unknown key (the nearest known one is named) or a value of the wrong type.
    """
    return from_dict(RunConfig, values)


def as_stored(values: Any) -> Any:
    """Settings of a run folder, with those that did not exist when it was made as they were then.

    A new setting's default is what was done before there was one.
    """
    if not isinstance(values, Mapping):
        return values
    filled = dict(values)
    for section, defaults in to_dict(RunConfig()).items():
        held = filled.get(section)
        if not isinstance(held, Mapping) or not isinstance(defaults, Mapping):
            continue
        filled[section] = {**defaults, **held}
    return filled


def from_dict(kind: type, values: Mapping[str, Any], where: str = "config") -> Any:
    """Builds dataclass ``kind`` from ``values``; ``where`` is the dotted path named in errors."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected settings, got {values!r}")
    types_of = typing.get_type_hints(kind)
    for key in values:
        if key not in types_of:
            known = any(name.startswith(f"{where}.") for name in hints.known())
            raise ConfigError(hints.unknown(f"{where}.{key}") if known else hints.stray(f"{where}.{key}", types_of))
    return kind(**{key: _convert(types_of[key], value, f"{where}.{key}") for key, value in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)
    if hint is Settings:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected settings, got {value!r}")
        return Settings(value)
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
