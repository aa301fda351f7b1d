"""One of several equal parts of a build, made by a process of its own; together they write what one build writes."""

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from alp_jax.core.errors import UserError

T = TypeVar("T")
_MOST = 10_000


class BuildPart(NamedTuple):
    """Part ``number`` (from 1) of ``of``. Its shards are every ``of``-th, so parts cost about the same."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "BuildPart":
        """``3/8`` as the third of eight parts.

        Raises:
          UserError: another form, or a number that is not from 1 to their count.
        """
        match = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text)
        part = cls(*map(int, match.groups())) if match else cls(0, 0)
        if not 1 <= part.number <= part.of <= _MOST:
            raise UserError(f"--part {text}: give NUMBER/OF, from 1/OF to OF/OF, such as 3/8")
        return part

    def share_of(self, items: Sequence[T]) -> list[T]:
        """Those of ``items`` that belong to this part, in their order."""
        return list(items[self.number - 1 :: self.of])

    @property
    def suffix(self) -> str:
        """What makes names of temporary files this part's own: ``-3-of-8``; "" for the only one."""
        return f"-{self.number}-of-{self.of}" if self.of > 1 else ""

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


WHOLE_BUILD = BuildPart(1, 1)
