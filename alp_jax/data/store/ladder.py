"""The nested ladder of data scales: a fixed order of the training clips whose prefixes are the rungs.

Clips are ordered by a seeded hash of their ids alone, so every rung contains the smaller ones, and adding or removing a
source does not change the relative order of the other clips.
"""

from collections.abc import Callable, Sequence

import numpy as np

from alp_jax.core.errors import UserError
from alp_jax.core.hashing import hash64

SEED = 2026
OUTSIDE = -1


def id_hash(clip_id: str) -> int:
    """The 64-bit hash of the id by which clips are ordered."""
    return hash64(SEED, clip_id)


def order(hash_N: np.ndarray, id_of: Callable[[int], str]) -> np.ndarray:
    """Rows in ladder order, int64[N]: by ``hash_N`` uint64, then by id if hashes collide, then as they came.

    ``id_of`` gives the id of a row; it is called only for rows whose hashes collide.
    """
    rows = np.argsort(hash_N, kind="stable")
    sorted_N = hash_N[rows]
    tied = np.flatnonzero(sorted_N[1:] == sorted_N[:-1])
    for run in np.split(tied, np.flatnonzero(np.diff(tied) > 1) + 1) if len(tied) else ():
        first, last = int(run[0]), int(run[-1]) + 2
        rows[first:last] = sorted(rows[first:last].tolist(), key=id_of)
    return rows


def ranks_along(order_N: np.ndarray, inside_N: np.ndarray) -> np.ndarray:
    """Rank of the rows for which ``inside_N`` (bool) is set, along ``order_N``, and OUTSIDE elsewhere; int32[N]."""
    ladder = np.full(len(order_N), OUTSIDE, np.int32)
    members = order_N[inside_N[order_N]]
    ladder[members] = np.arange(len(members), dtype=np.int32)
    return ladder


def ranks(ids: Sequence[str], inside_N: np.ndarray) -> np.ndarray:
    """``ranks_along`` for clips of which only the ids are known."""
    hash_N = np.fromiter((id_hash(clip_id) for clip_id in ids), np.uint64, len(ids))
    return ranks_along(order(hash_N, lambda row: ids[row]), inside_N)


def rung(ladder: np.ndarray, num_captions: np.ndarray, pairs: int) -> np.ndarray:
    """Rows of the smallest prefix of the ladder whose captions reach ``pairs``, in ladder order; int64[n].

    ``pairs`` = 0 takes the whole ladder. Raises UserError when there are fewer pairs than asked for.
    """
    inside = np.flatnonzero(ladder != OUTSIDE)
    rows = np.empty(len(inside), np.int64)
    rows[ladder[inside]] = inside
    if pairs == 0:
        return rows
    reached = np.cumsum(num_captions[rows], dtype=np.int64)
    total = int(reached[-1]) if len(reached) else 0
    if pairs < 0 or pairs > total:
        raise UserError(f"data.pairs = {pairs}: the training split has {total} audio-caption pairs; 0 takes them all")
    return rows[: int(np.searchsorted(reached, pairs)) + 1]
