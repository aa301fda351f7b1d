"""Which sources a run uses and in what proportions: by stage, and exact in every block of steps."""

import dataclasses
import itertools
import math
import re
from collections.abc import Sequence

import numpy as np

from alp_jax.core.errors import UserError
from alp_jax.core.names import nearest
from alp_jax.data.order.compose import BLOCK, Stage

_ROUNDS = 1000  # of proportional fitting; a few dozen suffice if the weights can be met
_STAGE = re.compile(r"\s*(?:(\d+)\s*:)?(.*)", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class StageWeights:
    """Integer weights of the sources, by name, from step ``start`` on."""

    start: int
    weights: dict[str, int]


def select(text: str, known: Sequence[str]) -> tuple[str, ...]:
    """The sources that ``data.sources`` asks for, in the order of ``known``: ``a,b``, or ``-a,-b`` for all but those.

    Raises:
      UserError: names ``data.sources`` if a source does not exist, both forms are mixed, or nothing is left.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    out = {name[1:] for name in names if name.startswith("-")}
    if out and len(out) < len(names):
        raise UserError(
            f"data.sources = {text!r}: name either the sources to take or, each with '-', those to leave out"
        )
    for name in names:
        _known(name.removeprefix("-"), known, "data.sources")
    chosen = tuple(name for name in known if (name not in out if out or not names else name in names))
    if not chosen:
        raise UserError(f"data.sources = {text!r} leaves no source")
    return chosen


def parse(text: str, sources: Sequence[str], absent: Sequence[str] = ()) -> tuple[StageWeights, ...]:
    """``a=3,b=1`` or, in stages, ``0:a=3,b=1;25600:a=1,b=1``; every source of the run needs a weight in every stage.

    ``absent`` are chosen sources that have no clip in the rung: they need no weight and may only have 0.

    Raises:
      UserError: names ``data.mixture``, the stage and what is wrong with it.
    """
    stages = []
    for number, part in enumerate(text.split(";")):
        start, body = _STAGE.fullmatch(part).groups()
        where = f"data.mixture stage {part.strip()!r}"
        if start is None and (number or ";" in text):
            raise UserError(f"{where}: begin it with its first step, as in 0:a=1,b=1;25600:a=3,b=1")
        weights = _weights(body, where)
        for name in weights:
            _known(name, [*sources, *absent], where)
            if name in absent and weights[name]:
                raise UserError(f"{where}: source {name!r} has no clips in this rung; its weight can only be 0")
        for name in sources:
            if name not in weights:
                raise UserError(f"{where}: source {name!r} has no weight; give it one, or leave it out in data.sources")
        if not any(weights.values()):
            raise UserError(f"{where}: all weights are 0")
        stages.append(StageWeights(int(start or 0), weights))
    starts = [stage.start for stage in stages]
    if starts[0] or any(b <= a for a, b in itertools.pairwise(starts)) or any(s % BLOCK for s in starts):
        raise UserError(
            f"data.mixture: stages start at {', '.join(map(str, starts))}; "
            f"the first must start at 0 and each of the others after the one before, at a multiple of {BLOCK} steps"
        )
    return tuple(stages)


def _weights(body: str, where: str) -> dict[str, int]:
    weights = {}
    for item in filter(None, map(str.strip, body.split(","))):
        name, _, value = map(str.strip, item.rpartition("="))
        if not name or not value.isdecimal():
            raise UserError(f"{where}: {item!r} is not NAME=WEIGHT with a whole number of 0 or more")
        if name in weights:
            raise UserError(f"{where}: source {name!r} has two weights")
        weights[name] = int(value)
    return weights


def _known(name: str, known: Sequence[str], where: str) -> None:
    if name not in known:
        raise UserError(f"{where}: there is no source {name!r}{nearest(name, known)}")


def largest_remainder(share_N: Sequence[float], total: int, least: int = 0) -> np.ndarray:
    """Splits ``total`` by the shares (not negative): floors, then one more for the largest remainders; int64[N].

    Everyone with a share first gets ``least``.
    """
    share_N = np.asarray(share_N, float)
    having = share_N > 0
    ideal = share_N / share_N.sum() * (total - least * having.sum())
    counts = np.floor(ideal).astype(np.int64) + least * having
    # Stable, so that of equal remainders the first gets more on every host; the order of all batches depends on it.
    order = np.argsort(-(ideal % 1), kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return counts


def stage(start: int, weight_C: Sequence[int], size_KC: np.ndarray, batch_K: Sequence[int]) -> Stage:
    """Divides a block of steps among buckets and components.

    Within a block the clips of the components are in proportion to their weights, up to rounding to whole clips, and
    every component keeps its distribution of lengths as well as whole batches allow. If both cannot hold at once (for
    example with a source whose clips all lie in one bucket), full batches take precedence over weights.

    Args:
      weight_C: whole numbers, not all 0.
      size_KC: clips of each component in each bucket; no column with a weight is empty.
      batch_K: clips in a batch.
    """
    size_KC = np.asarray(size_KC, np.int64)
    rate_C = np.asarray(weight_C, float) / np.maximum(1, size_KC.sum(0))
    demand_KC = size_KC * (rate_C / rate_C.max())
    steps_K = largest_remainder([math.fsum(row) / b for row, b in zip(demand_KC, batch_K, strict=True)], BLOCK, 1)
    entries_K = steps_K * np.asarray(batch_K, np.int64)
    weighted = np.where(size_KC.sum(0) > 0, weight_C, 0)
    return Stage(start, steps_K, _fit(demand_KC, entries_K, largest_remainder(weighted, int(entries_K.sum()))))


def _fit(demand_KC: np.ndarray, row_K: np.ndarray, column_C: np.ndarray) -> np.ndarray:
    """Whole numbers in proportion to ``demand_KC`` with the given sums of rows and, if possible, of columns."""
    fit = demand_KC.tolist()  # Python floats and fsum give equal results on every machine
    rows, columns = row_K.tolist(), column_C.tolist()
    for _ in range(_ROUNDS):
        totals = [math.fsum(column) for column in zip(*fit, strict=True)]
        fit = [[x * c / t if t else 0.0 for x, c, t in zip(row, columns, totals, strict=True)] for row in fit]
        sums = [math.fsum(row) or 1.0 for row in fit]
        fit = [[x * r / s for x in row] for row, r, s in zip(fit, rows, sums, strict=True)]
        off = [math.fsum(column) - c for column, c in zip(zip(*fit, strict=True), columns, strict=True)]
        if max(map(abs, off)) < 1e-6:
            break
    fit_KC = np.array(fit)
    whole_KC = np.floor(fit_KC).astype(np.int64)
    _complete(whole_KC, fit_KC, row_K - whole_KC.sum(1), column_C - whole_KC.sum(0))
    return whole_KC


def _complete(whole_KC: np.ndarray, fit_KC: np.ndarray, row_K: np.ndarray, column_C: np.ndarray) -> None:
    """Adds what the rows lack (``row_K``) to ``whole_KC``, where possible in the columns that lack it."""
    # The largest remainders first, and of equal ones the first cell, on every host; where that gets stuck, by a detour
    # through cells that can give one up.
    for cell in np.argsort(-(fit_KC % 1), axis=None, kind="stable"):
        k, c = np.unravel_index(cell, fit_KC.shape)
        if row_K[k] > 0 and column_C[c] > 0 and fit_KC[k, c] > 0:
            _add(whole_KC, row_K, column_C, [(int(k), int(c))])
    for k in range(len(row_K)):
        while row_K[k] > 0:
            path = _path(whole_KC, fit_KC, column_C, k)
            _add(whole_KC, row_K, column_C, path or [(k, int(np.argmax(fit_KC[k])))])


def _add(whole_KC: np.ndarray, row_K: np.ndarray, column_C: np.ndarray, path: list[tuple[int, int]]) -> None:
    """Adds one clip to the first row and the last column of a path that alternately gives and takes."""
    for i, (k, c) in enumerate(path):
        whole_KC[k, c] += -1 if i % 2 else 1
    row_K[path[0][0]] -= 1
    column_C[path[-1][1]] -= 1


def _path(whole_KC: np.ndarray, fit_KC: np.ndarray, column_C: np.ndarray, start: int) -> list[tuple[int, int]] | None:
    """A shortest way from row ``start`` to a column that lacks clips: give to a cell, take from a cell, give ..."""
    ways, seen, reached = [[(start, c)] for c in np.flatnonzero(fit_KC[start])], {start}, set()
    while ways:
        longer = []
        for way in ways:
            c = int(way[-1][1])
            if column_C[c] > 0:
                return way
            if c not in reached:
                reached.add(c)
                for k in np.flatnonzero(whole_KC[:, c]).tolist():
                    if k not in seen:
                        seen.add(k)
                        longer += [[*way, (k, c), (k, d)] for d in np.flatnonzero(fit_KC[k]).tolist()]
        ways = longer
    return None
