"""The nested ladder of data scales: a fixed order of the training clips whose prefixes are the rungs.

The order is by a seeded hash of the clip id alone, so every rung contains the smaller ones, and adding or removing a
source changes nobody else's place relative to another.
"""

from collections.abc import Sequence

import numpy as np

from alp_jax.core.errors import UserError
from alp_jax.core.hashing import hash64

SEED = 2026
OUTSIDE = -1


def place(clip_id: str) -> tuple[int, str]:
    """What clips are ordered by: the hash of the id, then the id itself should two hashes meet."""
    return hash64(SEED, clip_id), clip_id


def ranks(ids: Sequence[str], inside: np.ndarray) -> np.ndarray:
    """Rank of every clip among those with ``inside`` bool[N] set; int64[N], OUTSIDE for the others."""
    members = np.flatnonzero(inside)
    order = sorted(members, key=lambda row: place(ids[row]))
    ladder = np.full(len(ids), OUTSIDE, np.int64)
    ladder[order] = np.arange(len(order))
    return ladder


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
