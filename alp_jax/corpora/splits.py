"""Splits for metadata that states none: whole groups, by a seeded hash of their names.

The split of a group depends on its name, the seed and the shares alone. So clips added later do not move other clips,
and a larger share of test or validation clips keeps those already there.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping

from alp_jax.core.clip import SPLITS
from alp_jax.core.errors import UserError
from alp_jax.core.hashing import hash64
from alp_jax.corpora.rows import BadRow

SHARES, SEED = "80/10/10", "0"
UNITS = ("group", "recording", "file")  # what stays together: the first of these for which a table has a column


@dataclasses.dataclass(frozen=True)
class SplitRule:
    """How clips without a stated split are split.

    Attributes:
      shares: of train, valid and test; they sum to 1.
      seed: of the hash.
      unit: what stays together: one of UNITS, or several if tables differ.
      tables: number of tables that it splits; the rest of ``of_tables`` state their splits.
    """

    shares: tuple[float, float, float]
    seed: int
    unit: str
    tables: int = 1
    of_tables: int = 1

    @classmethod
    def of(cls, columns: Mapping, shares: str, seed: str) -> "SplitRule":
        """A rule from the columns of a table and the texts of the options; UserError for invalid shares or seed."""
        try:
            parts = [float(part) for part in shares.split("/")]
        except ValueError:
            parts = []
        if len(parts) != len(SPLITS) or not all(0 <= part < math.inf for part in parts) or not sum(parts):
            raise UserError(f"--option shares={shares}: give train/valid/test as in shares={SHARES}")
        if not seed.isdecimal() or int(seed) >= 2**63:
            raise UserError(f"--option split_seed={seed}: give a whole number")
        unit = next((name for name in UNITS if name in columns), "file")
        return cls(tuple(part / sum(parts) for part in parts), int(seed), unit)

    def split(self, group: str) -> str:
        """The split of all clips of ``group``."""
        draw = hash64(self.seed, f"split of {group}") / 2**64
        _, valid, test = self.shares
        return "test" if draw < test else "valid" if draw < test + valid else "train"

    def facts(self) -> dict:
        """The rule as ``dataset.json`` records it."""
        return {"shares": dict(zip(SPLITS, self.shares, strict=True)), "seed": self.seed, "by": self.unit}

    def lines(self, splits: Mapping[str, Mapping]) -> Iterator[str]:
        """The rule as a build reports it; ``splits``: split -> {"clips": their number}."""
        counts = ", ".join(f"{splits.get(split, {'clips': 0})['clips']} {split}" for split in SPLITS)
        remedy = "--option split_seed=N or larger shares give some"
        if self.tables < self.of_tables:
            remedy = "a column 'split' can name some"  # if the other tables fix all groups, no seed helps
            yield f"no split column in {self.tables} of {self.of_tables} tables, so their clips are split {self}"
            yield f"  except for groups and files whose split other tables state; all clips together: {counts}"
        else:
            yield f"no split column, so clips are split {self}: {counts}"
        together = "" if self.unit == "group" else "; a column 'group' keeps clips together"
        yield f"  to change this, give a column 'split', --split or --option shares=70/15/15{together}"
        empty = [name for name, share in zip(SPLITS, self.shares, strict=True) if share and name not in splits]
        if empty:
            yield f"  no {' and no '.join(empty)} clips come of this: {remedy}"

    def __str__(self) -> str:
        shares = "/".join(f"{100 * share:g}" for share in self.shares)
        return f"{shares} by {self.unit}, seed {self.seed}"


class Assigned:
    """The splits of the groups, recordings and files seen so far, so that a rule never divides one of them.

    A rule yields to stated splits. A row without a group follows the file or recording that it shares with others.
    """

    def __init__(self, alone: bool = True):
        """``alone``: all tables state their splits, or all are split by file, so that only groups need to be kept."""
        self._alone = alone
        self._groups: dict[str, str] = {}
        self._firm: dict[int, str] = {}  # hash of a recording or file -> split, which rows with a group follow too
        self._loose: dict[int, str] = {}  # the same, followed only by rows without a group, since groups stay together

    def state(self, split: str, group: str, recording: str, file: str) -> None:
        """Records the split that a row states; BadRow if its group is in another."""
        if self._groups.setdefault(group, split) != split:
            raise BadRow("group_in_two_splits", f"{group!r} is in {split} here but in {self._groups[group]} earlier")
        if not self._alone:
            for key in _keys(recording, file).values():
                self._firm.setdefault(key, split)

    def by_rule(self, rule: SplitRule, own: str, recording: str, file: str, group: str) -> str:
        """The split of a row that states none.

        Args:
          own: the group that the row names, "" for none.
          recording, file: of the row; "" if there is none, or none that another row can name.
          group: the name that the rule hashes.

        Raises:
          BadRow: its group is in one split and its file in another.
        """
        if self._alone:
            return rule.split(group)
        keys = _keys(recording, file)
        known = {name: self._firm.get(key) or ("" if own else self._loose.get(key, "")) for name, key in keys.items()}
        split = self._groups.get(group) or known.get("file") or known.get("recording") or rule.split(group)
        if known.get("file", "") not in ("", split):
            raise BadRow(
                "group_in_two_splits",
                f"{group!r} is in {split}, but its file {file!r} was in {known['file']} earlier",
            )
        if own:
            self._groups[own] = split
        for key in keys.values():
            (self._loose if own else self._firm).setdefault(key, split)
        return split


def _keys(recording: str, file: str) -> dict[str, int]:
    names = {"recording": recording, "file": file}
    return {name: hash64(0, f"{name} {value}") for name, value in names.items() if value}
