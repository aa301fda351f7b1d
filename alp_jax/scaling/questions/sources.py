"""What each source of data is worth: from runs without it, runs with nothing else, and runs with everything.

A source takes its pairs with it when it is left out. Where runs with everything were made at several rungs, the law
through them says what losing that many pairs costs in any case, and the rest is what the source itself was worth.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json
from alp_jax.core.run_files import CONFIG, RUNS
from alp_jax.scaling.laws.curves import Curve, make_curves
from alp_jax.scaling.laws.fit import fit_law, shortage
from alp_jax.scaling.questions.common import answer_lines, hull

COLUMN = "sources"
Interval = tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class Worth:
    """Logarithms of ratios of errors (0.1: about ten percent), geometric means over seeds; None where no run tells.

    Attributes:
      without: error without the source over error with everything; above 0 it helps. Interval None: one run each.
      beyond_pairs: the same, but against everything cut down to that many pairs: the effect at equal amounts of data.
      alone: error with the source alone over error with everything.
    """

    source: str
    without: float | None
    without_interval: Interval
    beyond_pairs: float | None
    beyond_interval: Interval
    alone: float | None
    alone_interval: Interval
    runs: int

    def __str__(self) -> str:
        parts = (
            ("without it", self.without, self.without_interval),
            ("compared with as many pairs", self.beyond_pairs, self.beyond_interval),
            ("alone", self.alone, self.alone_interval),
        )
        return f"{self.source}: " + ", ".join(_part(*part) for part in parts if part[1] is not None)


@dataclasses.dataclass(frozen=True)
class SourcesAnswer:
    """Every source of one curve, the most valuable first."""

    group: dict[str, str]
    everything: int
    sources: list[Worth]
    warnings: list[str]

    def lines(self) -> list[str]:
        """Lines to print: the group, its sources and the warnings."""
        return answer_lines(self.group, self.sources, self.warnings)


def add_sources(rows: list[dict[str, Any]], ledger: str | pathlib.Path) -> list[dict[str, Any]]:
    """Rows with the column ``sources``: their own, or ``data.sources`` of ``runs/RUN/config.json`` beside the ledger.

    Raises:
      UserError: a run has neither.
    """
    if COLUMN in rows[0]:
        return rows
    known = {}
    for run in sorted({str(row.get("run")) for row in rows}):
        file = pathlib.Path(ledger).parent / RUNS / run / CONFIG
        config = read_json(file, "run configuration") if file.is_file() else {}
        known[run] = config.get("data", {}).get(COLUMN)
        if known[run] is None:
            raise UserError(f"--ledger {ledger} has no column {COLUMN!r}, and {file} does not say the sources of {run}")
    return [row | {COLUMN: known[str(row.get("run"))]} for row in rows]


def ask_sources(rows: list[dict[str, Any]], *, y: str = "error", replicas: int = 200) -> list[SourcesAnswer]:
    """What every source is worth, in every group.

    Rows have a column ``sources`` in the words of ``data.sources``: empty for all of them, ``-NAME`` for all but one,
    ``NAME`` for one alone. Other runs are compared with those of the largest ``pairs`` with everything. Rows of other
    mixtures are only counted, in the warnings.

    Raises:
      UserError: as ``make_curves``; no group has runs with everything and runs of one source left out or alone.
    """
    curves, excluded = make_curves(rows, ("pairs",), y)
    answers = [answer for curve in curves if (answer := _answer(curve, replicas)) is not None]
    if not answers:
        reasons = f" ({excluded})" if str(excluded) else ""
        raise UserError(
            f"no group has runs with every source (empty {COLUMN}) and others with -NAME or NAME alone{reasons}"
        )
    return answers


def _answer(curve: Curve, replicas: int) -> SourcesAnswer | None:
    kind = [_mixture(str(row[COLUMN])) for row in curve.rows]
    logs, pairs = np.log(curve.y), curve.x[:, 0]
    whole = np.array([k == ("all", "") for k in kind])
    names = sorted({name for part, name in kind if part in ("without", "alone")})
    if not whole.any() or not names:
        return None
    full = whole & (pairs == pairs[whole].max())
    law = None
    if not shortage("power", curve.x[whole]):
        seeds = None if curve.seeds is None else [s for s, w in zip(curve.seeds, whole, strict=True) if w]
        law = fit_law("power", curve.x[whole], curve.y[whole], replicas=replicas, seeds=seeds)
    worths = []
    for name in names:
        without, alone = (np.array([k == (part, name) for k in kind]) for part in ("without", "alone"))
        left = _difference(logs[without], logs[full])
        beyond = _beyond(law, logs[without], pairs[without])
        single = _difference(logs[alone], logs[full])
        worths.append(Worth(name, *left, *beyond, *single, runs=int(without.sum() + alone.sum())))
    worths.sort(key=lambda w: (w.without is None, -(w.without or 0.0), w.source))
    others = sum(part == "other" for part, _ in kind)
    warnings = [f"{others} runs of other mixtures are not used"] if others else []
    if law is None:
        warnings.append("too few rungs with everything: what a source costs in pairs alone is unknown")
    return SourcesAnswer(curve.group, int(full.sum()), worths, warnings)


def _mixture(text: str) -> tuple[str, str]:
    """(``all``, ``without``, ``alone`` or ``other``; the source)."""
    text = text.strip()
    if not text:
        return "all", ""
    if "," in text:
        return "other", text
    return ("without", text[1:]) if text.startswith("-") else ("alone", text)


def _difference(logs: np.ndarray, base: np.ndarray) -> tuple[float | None, Interval]:
    """Mean difference and Welch's 95% interval."""
    if not len(logs):
        return None, None
    value = float(logs.mean() - base.mean())
    if len(logs) < 2 or len(base) < 2:
        return value, None
    from scipy.stats import ttest_ind

    if logs.std() == base.std() == 0:
        return value, (value, value)
    interval = ttest_ind(logs, base, equal_var=False).confidence_interval(0.95)
    return value, (float(interval.low), float(interval.high))


def _beyond(law: Any, logs: np.ndarray, pairs: np.ndarray) -> tuple[float | None, Interval]:
    """Mean log error minus what the law through everything predicts at that many pairs, and its 95% interval."""
    if law is None or not len(logs):
        return None, None
    value = float((logs - np.log(law.predict(pairs))).mean())
    if len(logs) < 2 or law.residual_sd is None:
        return value, None
    rng = np.random.default_rng(0)
    error = max(law.residual_sd, float(logs.std(ddof=1))) / np.sqrt(len(logs))
    kinds = [
        logs.mean() + error * rng.standard_normal(len(kind)) - np.log(kind).mean(1) for kind in law.replicas(pairs)
    ]
    return value, hull(kinds, value)


def _part(title: str, value: float, interval: Interval) -> str:
    range_ = f" [{_percent(interval[0])}, {_percent(interval[1])}]" if interval else " (one run: no interval)"
    return f"{title} {_percent(value)}{range_}"


def _percent(log_ratio: float) -> str:
    return f"{100 * np.expm1(log_ratio):+.1f}%"
