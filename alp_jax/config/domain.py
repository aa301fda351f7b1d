"""What a setting means and which values it may have, stored with its field for checks, ``--help`` and reports.

    steps: int = setting(600_000, "length of the run", unit="steps", low=0)

Every number is finite and has a range; a tuple's holds for each of its items.
"""

import dataclasses
import math
import typing
from collections.abc import Iterator
from typing import Any

from alp_jax.config.errors import ConfigError
from alp_jax.config.outside import Settings
from alp_jax.core import plugins

_KEY = "domain"


@dataclasses.dataclass(frozen=True)
class Domain:
    """The meaning of a setting and the values it may have.

    Attributes:
      meaning: in words, without the unit and range of a number.
      unit: unit of a number; empty where it has none.
      low, high: the least and the largest number; None: no such limit.
      above, below: limits that a number must not reach.
      also: numbers outside of the range that are allowed too, because they mean something of their own.
      choices: the texts that are allowed; empty: any.
      group: entry points whose names are allowed beside ``choices``; empty: none.
      free: whether a run may resume with another value, because its results do not depend on it.
    """

    meaning: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    also: tuple[float, ...] = ()
    choices: tuple[str, ...] = ()
    group: str = ""
    free: bool = False

    def holds(self, value: Any) -> bool:
        """Whether ``value`` (an item of it, if it is a tuple) is allowed."""
        if isinstance(value, str):
            return not self.choices or value in self.choices or value in self.added()
        if isinstance(value, bool):
            return not self.range()  # every number has a range; a bool is not a number, though Python treats it as one
        if value in self.also:
            return True
        if not math.isfinite(value):
            return False
        return not (
            (self.low is not None and value < self.low)
            or (self.high is not None and value > self.high)
            or (self.above is not None and value <= self.above)
            or (self.below is not None and value >= self.below)
        )

    def added(self) -> list[str]:
        """The texts that other distributions add to ``choices``."""
        return list(plugins.load(self.group, self.choices)) if self.group else []

    def range(self) -> str:
        """``above 0 and at most 1``, ``1 or more, or -1``, ``one of a, b``; empty for a text that may be any."""
        if self.choices:
            return f"one of {', '.join([*self.choices, *self.added()])}"
        first = "" if self.above is None else f"above {_number(self.above)}"
        last = "" if self.below is None else f"below {_number(self.below)}"
        if self.high is not None:
            last = f"at most {_number(self.high)}"
        if self.low is not None:
            if self.high is not None:
                first, last = f"{_number(self.low)} to {_number(self.high)}", ""
            else:
                first = f"at least {_number(self.low)}" if last else f"{_number(self.low)} or more"
        text = " and ".join(filter(None, (first, last)))
        return text + "".join(f", or {_number(value)}" for value in self.also)


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting of a tree of dataclasses: its dotted name, type, default and domain."""

    name: str
    kind: Any
    default: Any
    domain: Domain


def setting(default: Any, meaning: str, **domain: Any) -> Any:
    """The field of a dataclass that holds a setting; ``domain`` are the other attributes of ``Domain``."""
    return dataclasses.field(default=default, metadata={_KEY: Domain(meaning, **domain)})


def settings_of(kind: type, prefix: str = "") -> Iterator[Setting]:
    """Every setting below the dataclass ``kind``, in order; ``prefix`` stands before their names."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from settings_of(hints[field.name], f"{prefix}{field.name}.")
        elif hints[field.name] is not Settings:
            yield Setting(prefix + field.name, hints[field.name], field.default, field.metadata[_KEY])


def check_domains(settings: Any, where: str = "config") -> None:
    """Raises ConfigError for the first value of a dataclass outside of its domain; ``where`` stands before its name."""
    for field in dataclasses.fields(settings):
        name, value = f"{where}.{field.name}", getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            check_domains(value, name)
            continue
        if isinstance(value, Settings):  # only their owner's dataclass knows their ranges
            continue
        domain = field.metadata[_KEY]
        for item in value if isinstance(value, tuple) else (value,):
            if not domain.holds(item):
                subject = "every number" if isinstance(value, tuple) else "it"
                finite = "" if isinstance(item, str) or math.isfinite(item) else "a finite number, "
                unit = f" ({domain.unit})" if domain.unit else ""
                raise ConfigError(
                    f"{name} is {_show(value)}: {subject} must be {finite}{domain.range()}{unit}; {domain.meaning}"
                )


def _show(value: Any) -> str:
    return repr(value) if isinstance(value, str) else str(value)


def _number(value: float) -> str:
    return f"{value:,}".replace(",", "_") if isinstance(value, int) and abs(value) >= 10_000 else f"{value:g}"
