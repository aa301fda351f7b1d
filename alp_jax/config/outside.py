"""Settings whose dataclass is not ours: those of an encoder from another distribution."""

from collections.abc import Iterator, Mapping
from typing import Any


class Settings(Mapping[str, Any]):
    """Names and values, immutable and hashable as the configuration around them; lists become tuples.

    Their owner's dataclass gives them types and ranges, see ``alp_jax.models.encoders``.
    """

    def __init__(self, values: Mapping[str, Any] | None = None):
        self._values = {k: tuple(v) if isinstance(v, list) else v for k, v in (values or {}).items()}

    @classmethod
    def of(cls, settings: Any) -> "Settings":
        """Those of a dataclass without others inside it."""
        return cls(vars(settings))

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        return repr(self._values)
