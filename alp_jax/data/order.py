"""What global batch ``step`` consists of, as a pure function of (clips, seed, step). Nothing here has state.

Philox streams are keyed by (seed, index) with the purpose in the counter, so no draw depends on an earlier one, on the
number of hosts or on the number of workers.
"""

import dataclasses
import functools

import numpy as np

from alp_jax.data.buckets import BLOCK, Bucket

VERSION = 1  # part of every fingerprint: raise it when anything here changes the order
_SCHEDULE, _EXAMPLE, _SHUFFLE = 1, 2, 3  # purposes of the random streams
_MASK = (1 << 64) - 1
_ROUNDS = 8


def philox(seed: int, purpose: int, index: int) -> np.random.Generator:
    """Random stream ``index`` of one purpose."""
    return np.random.Generator(np.random.Philox(key=[seed & _MASK, index], counter=[0, 0, 0, purpose]))


def _mix(x: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser on uint64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def permute(index_N: np.ndarray, size: int, keys_R: np.ndarray) -> np.ndarray:
    """Places of ``index_N`` in a pseudo-random permutation of range(size), without building the permutation.

    A Feistel network on the next even power of two, walked until it lands inside (Black and Rogaway 2002, "Ciphers
    with arbitrary finite domains"). ``keys_R`` uint64 holds one key per round.
    """
    half = np.uint64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))
    low = np.uint64((1 << int(half)) - 1)
    out = np.array(index_N, np.uint64)
    todo = np.arange(out.size)
    while todo.size:
        left, right = out[todo] >> half, out[todo] & low
        for key in keys_R:
            left, right = right, left ^ (_mix(right + key) & low)
        out[todo] = left << half | right
        todo = todo[out[todo] >= size]
    return out.astype(np.int64)


@functools.lru_cache(maxsize=1024)
def _shuffle_keys(seed: int, bucket: int, epoch: int) -> np.ndarray:
    stream = philox(seed, _SHUFFLE + (bucket << 8), epoch)
    return stream.integers(0, _MASK, _ROUNDS, np.uint64, endpoint=True)


@dataclasses.dataclass(frozen=True)
class Step:
    """Composition of one global batch of B clips.

    Attributes:
      bucket: index of the bucket.
      member_B: int64, which of the bucket's clips.
      crop_B: float64 in [0, 1), where a clip that is too long is cut.
      caption_B: float64 in [0, 1), which of its captions is taken.
    """

    bucket: int
    member_B: np.ndarray
    crop_B: np.ndarray
    caption_B: np.ndarray


def schedule(buckets: list[Bucket], seed: int, step: int) -> tuple[int, int]:
    """Bucket of ``step`` and how many earlier steps used that bucket."""
    block, position = divmod(step, BLOCK)
    order = philox(seed, _SCHEDULE, block).permutation(
        np.repeat(np.arange(len(buckets)), [b.per_block for b in buckets])
    )
    bucket = int(order[position])
    return bucket, block * buckets[bucket].per_block + int(np.count_nonzero(order[:position] == bucket))


def shuffled(bucket: int, size: int, seed: int, start: int, count: int) -> np.ndarray:
    """Entries ``start`` to ``start + count`` of a bucket's endless stream: one permutation of range(size) per epoch."""
    entry = np.arange(start, start + count)
    member = np.empty(count, np.int64)
    for epoch in range(start // size, (start + count - 1) // size + 1):
        here = entry // size == epoch
        member[here] = permute(entry[here] % size, size, _shuffle_keys(seed, bucket, epoch))
    return member


def compose(buckets: list[Bucket], seed: int, step: int) -> Step:
    """The whole global batch ``step``; hosts take contiguous rows of it."""
    bucket, use = schedule(buckets, seed, step)
    batch, size = buckets[bucket].batch, buckets[bucket].clips
    draws = philox(seed, _EXAMPLE, step).random((batch, 2))
    return Step(bucket, shuffled(bucket, size, seed, use * batch, batch), draws[:, 0], draws[:, 1])
