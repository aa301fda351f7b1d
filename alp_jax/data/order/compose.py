"""The composition of global batch ``step``, as a pure function of (recipe, seed, step). Nothing here has state.

A run is cut into blocks of ``BLOCK`` steps. In each, every bucket is used an exact number of times, and the clips
it takes are divided among the components of the mixture in exact numbers, which ``mixture.py`` determines.
Every component has, in every bucket, an endless stream of its own clips: one permutation of them after another.
"""

import bisect
import dataclasses
import functools
import itertools

import numpy as np

from alp_jax.core.hashing import keys, permute, philox
from alp_jax.data.order.windows import SHUFFLE, Windows, pass_schedule

SCHEDULE, EXAMPLE, MIX = 1, 2, 4  # purposes of random streams, all distinct; see windows.SHUFFLE
VERSION = 1  # part of every fingerprint: raise it if a change here, in windows.py or core/hashing.py alters the order
BLOCK = 256  # steps in which every bucket and every component appears an exact number of times


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """The composition of every block from some step on.

    Attributes:
      start: first step, a multiple of ``BLOCK``.
      steps_K: int64, steps of a block that use each bucket; they sum to ``BLOCK``.
      entries_KC: int64, clips that those steps take from each component; rows sum to steps x batch.
    """

    start: int
    steps_K: np.ndarray
    entries_KC: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Recipe:
    """Everything that the order depends on besides the seed.

    Attributes:
      batch_K: clips in a global batch of each bucket.
      size_KC: int64, clips that each component has in each bucket.
      component_C: number that identifies the component's random streams; 0 if there is only one.
      stages: sorted by start; the first starts at 0.
      windows: where the clips lie in shards, for an order that visits shards one after another; None for an order
        that ignores where clips lie.
    """

    batch_K: tuple[int, ...]
    size_KC: np.ndarray
    component_C: tuple[int, ...]
    stages: tuple[Stage, ...]
    windows: Windows | None = None

    @property
    def in_passes(self) -> bool:
        """Whether buckets are scheduled by passes over the shards instead of by blocks."""
        return self.windows is not None and len(self.component_C) == 1

    def stage(self, step: int) -> int:
        """Index of the stage that ``step`` is in."""
        return bisect.bisect_right([stage.start for stage in self.stages], step) - 1

    @functools.cached_property
    def _before(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Uses of every bucket and entries of every (bucket, component) before each stage."""
        before = [(np.zeros_like(self.stages[0].steps_K), np.zeros_like(self.stages[0].entries_KC))]
        for stage, after in itertools.pairwise(self.stages):
            blocks = (after.start - stage.start) // BLOCK
            uses, entries = before[-1]
            before.append((uses + blocks * stage.steps_K, entries + blocks * stage.entries_KC))
        return before

    def before(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Uses of every bucket int64[K], and clips taken from every component int64[K, C], before ``step``'s block."""
        s = self.stage(step)
        stage, (uses, entries) = self.stages[s], self._before[s]
        blocks = (step - stage.start) // BLOCK
        return uses + blocks * stage.steps_K, entries + blocks * stage.entries_KC


@dataclasses.dataclass(frozen=True)
class Step:
    """Composition of one global batch of B clips.

    Attributes:
      bucket: index of the bucket.
      first: entry of the bucket's stream at which the batch begins.
      component_B: int64, component that each clip comes from.
      member_B: int64, which of the component's clips in the bucket it is.
      crop_B: float64 in [0, 1), where a clip that is too long is cropped.
      caption_B: float64 in [0, 1), which of its captions is used.
    """

    bucket: int
    first: int
    component_B: np.ndarray
    member_B: np.ndarray
    crop_B: np.ndarray
    caption_B: np.ndarray


def schedule(recipe: Recipe, seed: int, step: int) -> tuple[int, int]:
    """Bucket of ``step`` and how many earlier steps used that bucket."""
    if recipe.in_passes:
        return pass_schedule(tuple(recipe.size_KC[:, 0].tolist()), recipe.batch_K, seed, step)
    steps_K = recipe.stages[recipe.stage(step)].steps_K
    block, position = divmod(step, BLOCK)
    # The whole block is drawn again for every step: a worker or host may come to any step first, and keeps no state.
    order = philox(seed, SCHEDULE, block).permutation(np.repeat(np.arange(len(steps_K)), steps_K))
    bucket = int(order[position])
    return bucket, int(recipe.before(step)[0][bucket] + np.count_nonzero(order[:position] == bucket))


def shuffled(bucket: int, size: int, seed: int, entry_N: np.ndarray, component: int = 0) -> np.ndarray:
    """Entries of a component's endless stream in a bucket: one permutation of range(size) per epoch; int64[N]."""
    epoch_N, place_N = np.divmod(entry_N, size)
    member_N = np.empty(len(epoch_N), np.int64)
    for epoch in np.unique(epoch_N):
        of_epoch = epoch_N == epoch
        # A batch may extend past the end of an epoch; each side then uses the key of its own permutation.
        member_N[of_epoch] = permute(place_N[of_epoch], size, keys(seed, SHUFFLE, bucket, int(epoch), component))
    return member_N


def _divide(recipe: Recipe, seed: int, step: int, bucket: int, entry_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Component of every entry of a bucket's stream, and the corresponding entry of the component's own stream."""
    if len(recipe.component_C) == 1:
        return np.zeros(len(entry_B), np.int64), entry_B
    before_C, counts_C = recipe.before(step)[1][bucket], recipe.stages[recipe.stage(step)].entries_KC[bucket]
    # One permutation shuffles all entries of the bucket's uses in this block; its first counts_C[0] places are those of
    # component 0, and so on. So the counts of a block are exact, and a component's own stream continues without a gap.
    place_B = permute(entry_B - before_C.sum(), int(counts_C.sum()), keys(seed, MIX, bucket, step // BLOCK))
    ends_C = np.cumsum(counts_C)
    component_B = np.searchsorted(ends_C, place_B, side="right")
    return component_B, place_B + (before_C + counts_C - ends_C)[component_B]


def compose(recipe: Recipe, seed: int, step: int) -> Step:
    """The whole global batch ``step``; hosts take contiguous rows of it."""
    bucket, use = schedule(recipe, seed, step)
    batch = recipe.batch_K[bucket]
    component_B, entry_B = _divide(recipe, seed, step, bucket, use * batch + np.arange(batch))
    member_B = np.empty(batch, np.int64)
    for c in np.unique(component_B):
        of_component, component = component_B == c, recipe.component_C[c]
        if recipe.windows is None:
            size = int(recipe.size_KC[bucket, c])
            member_B[of_component] = shuffled(bucket, size, seed, entry_B[of_component], component)
        else:
            member_B[of_component] = recipe.windows.members(bucket, int(c), component, seed, entry_B[of_component])
    # Drawn by row of the global batch, before hosts take their parts, so that they do not depend on the number of
    # hosts.
    draws = philox(seed, EXAMPLE, step).random((batch, 2))
    return Step(bucket, use * batch, component_B, member_B, draws[:, 0], draws[:, 1])
