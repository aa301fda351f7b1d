"""Splits for metadata that names none: whole groups by a seeded hash of their name.

Where a group goes depends on its name, the seed and the shares alone, so that clips which are added later move no other
clip, and a larger share of test or validation clips keeps those there are.
"""

import dataclasses
import math
from collections.abc import Mapping

from alp_jax.core.clip import SPLITS
from alp_jax.core.errors import UserError
from alp_jax.core.hashing import hash64
from alp_jax.corpora.adapter import Option

SHARES, SEED = "80/10/10", "0"
OPTIONS = {
    "shares": Option("percent of train, valid and test clips where the metadata has no split, by group", SHARES),
    "split_seed": Option("another number puts other groups into the splits", SEED),
}
_UNITS = ("group", "recording")  # columns whose values stay together, the first that is there


@dataclasses.dataclass(frozen=True)
class SplitRule:
    """How clips without a stated split are split.

    Attributes:
      shares: of train, valid and test; they sum to 1.
      seed: of the hash.
      unit: what stays together: ``group``, ``recording`` or ``file``.
    """

    shares: tuple[float, float, float]
    seed: int
    unit: str

    @classmethod
    def of(cls, columns: Mapping, shares: str, seed: str) -> "SplitRule":
        """From the columns of a table and the texts of OPTIONS; UserError for texts that are no shares or seed."""
        try:
            parts = [float(part) for part in shares.split("/")]
        except ValueError:
            parts = []
        if len(parts) != len(SPLITS) or not all(0 <= part < math.inf for part in parts) or not sum(parts):
            raise UserError(f"--option shares={shares}: give train/valid/test as in shares={SHARES}")
        if not seed.isdecimal() or int(seed) >= 2**63:
            raise UserError(f"--option split_seed={seed}: give a whole number")
        unit = next((name for name in _UNITS if name in columns), "file")
        return cls(tuple(part / sum(parts) for part in parts), int(seed), unit)

    def split(self, group: str) -> str:
        """The split of all clips of ``group``."""
        place = hash64(self.seed, f"split of {group}") / 2**64
        _, valid, test = self.shares
        return "test" if place < test else "valid" if place < test + valid else "train"

    def facts(self) -> dict:
        """What ``dataset.json`` says of it."""
        return {"shares": dict(zip(SPLITS, self.shares, strict=True)), "seed": self.seed, "by": self.unit}

    def __str__(self) -> str:
        shares = "/".join(f"{100 * share:g}" for share in self.shares)
        return f"{shares} by {self.unit}, seed {self.seed}"
