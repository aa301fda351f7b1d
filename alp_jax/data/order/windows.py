"""An order that visits shards one after another, for storage that reads whole files cheaply but not single clips.

In every epoch the shards are permuted anew and cut into windows of a few shards; clips are shuffled within a window.
All buckets go through the shards together, in passes: pass ``e`` uses every bucket as often as it takes to bring it
through its clips for the ``e``-th time, with uses spread evenly. So at any time one window, or two at a boundary, holds
every clip that is needed, and the order is still a pure function of the step, the same on any number of hosts.

The clips of a global batch are sorted by where they lie, so a host, which takes a stretch of every batch, needs about
its share of a window's shards: with as many shards in a window as there are hosts, one or two.

A mixture by weight brings sources through their clips at different speeds; then every source in every bucket has a
window of its own, and a cache needs room for all of them.
"""

import bisect
import dataclasses
import functools

import numpy as np

from alp_jax.core.hashing import keys, mix, permute, philox

# Purposes of random streams, all distinct; compose.py has 1, 2 and 4.
SHUFFLE, PASS, SHARDS = 3, 5, 6


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """Where the clips of every (bucket, component) lie.

    Attributes:
      shards: numbers of the shards that hold clips of the rung, int64[F].
      ends_KCF: int64, how many of the (bucket, component)'s clips, sorted by shard, lie in the shards up to each one.
      width: shards in a window.
    """

    shards: np.ndarray
    ends_KCF: np.ndarray
    width: int

    def visits(self, seed: int, epoch: int) -> np.ndarray:
        """The order of the shards in one epoch: indices into ``shards``, the same for all buckets."""
        return _visits(seed, len(self.shards), epoch)

    def members(self, bucket: int, c: int, component: int, seed: int, entry_N: np.ndarray) -> np.ndarray:
        """Entries of a component's endless stream in a bucket: each of its clips once per epoch; int64[N]."""
        ends_F = self.ends_KCF[bucket, c]
        epoch_N, place_N = np.divmod(entry_N, int(ends_F[-1]))
        member_N = np.empty(len(entry_N), np.int64)
        for epoch in np.unique(epoch_N):
            visit_F = self.visits(seed, int(epoch))
            count_F = np.diff(ends_F, prepend=0)[visit_F]
            upto_F = np.cumsum(count_F)
            limits_W = np.append(upto_F[self.width - 1 : -1 : self.width], upto_F[-1])
            window_N = np.searchsorted(limits_W, place_N, side="right")
            for window in np.unique(window_N[epoch_N == epoch]):
                of_window = (epoch_N == epoch) & (window_N == window)
                first = int(limits_W[window - 1]) if window else 0
                # One permutation for each window, over the clips of all its shards and of no other: that is what bounds
                # the shards that are needed at a time.
                key = keys(seed, SHUFFLE, bucket, int(epoch), component) + mix(np.array([window + 1], np.uint64))
                inside = first + permute(place_N[of_window] - first, int(limits_W[window]) - first, key)
                visit = np.searchsorted(upto_F, inside, side="right")
                shard = visit_F[visit]
                member_N[of_window] = inside - upto_F[visit] + ends_F[shard]
        return member_N

    def around(self, bucket: int, seed: int, entry: int) -> tuple[list[int], list[int]]:
        """Shards of the window that holds ``entry`` of the bucket's first component, and of the next window; sorted."""
        ends_F = self.ends_KCF[bucket, 0]
        epoch, rest = divmod(entry, int(ends_F[-1]))
        visit_F = self.visits(seed, epoch)
        upto_F = np.cumsum(np.diff(ends_F, prepend=0)[visit_F])
        first = int(np.searchsorted(upto_F, rest, side="right")) // self.width * self.width
        now, then = visit_F[first : first + self.width], visit_F[first + self.width : first + 2 * self.width]
        then = then if len(then) else self.visits(seed, epoch + 1)[: self.width]
        return sorted(self.shards[now].tolist()), sorted(self.shards[then].tolist())


@functools.lru_cache(maxsize=8)
def _visits(seed: int, num_shards: int, epoch: int) -> np.ndarray:
    return philox(seed, SHARDS, epoch).permutation(num_shards)


def _uses(epochs: int, size: int, batch: int) -> int:
    """Number of batches after which all of a bucket's clips were taken ``epochs`` times."""
    return -(-epochs * size // batch)


def pass_schedule(sizes: tuple[int, ...], batches: tuple[int, ...], seed: int, step: int) -> tuple[int, int]:
    """Bucket of ``step`` and how many earlier steps used it, for buckets of ``sizes`` clips in ``batches``."""

    def begin(number: int) -> int:
        return sum(_uses(number, size, batch) for size, batch in zip(sizes, batches, strict=True))

    longest = int(step / sum(size / batch for size, batch in zip(sizes, batches, strict=True))) + 2
    number = bisect.bisect_right(range(longest + 1), step, key=begin) - 1
    bucket_T, use_T = _pass(sizes, batches, seed, number)
    position = step - begin(number)
    return int(bucket_T[position]), int(use_T[position])


@functools.lru_cache(maxsize=4)
def _pass(sizes: tuple[int, ...], batches: tuple[int, ...], seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Bucket of every step of one pass, and how many earlier steps of the run used it; int64[T] each."""
    random = philox(seed, PASS, number)
    buckets, uses, times = [], [], []
    for k, (size, batch) in enumerate(zip(sizes, batches, strict=True)):
        first, last = _uses(number, size, batch), _uses(number + 1, size, batch)
        buckets.append(np.full(last - first, k))
        uses.append(np.arange(first, last))
        # A use somewhere in each of as many equal parts of the pass: all buckets come through their clips at the same
        # pace, which one permutation of all uses would not ensure.
        times.append((np.arange(last - first) + random.random(last - first)) / max(1, last - first))
    # Stable, so that equal times are in the same order on every host.
    order = np.argsort(np.concatenate(times), kind="stable")
    return np.concatenate(buckets)[order], np.concatenate(uses)[order]
