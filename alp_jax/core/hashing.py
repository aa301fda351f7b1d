"""Hashes, and stateless random streams and permutations: the result depends on the arguments alone, on every machine,
in every process and in every version."""

import functools
import hashlib
import json
from typing import Any

import numpy as np

_MASK = (1 << 64) - 1
_ROUNDS = 8  # of the permutation; with fewer it is visibly regular


def hash64(seed: int, text: str) -> int:
    """Seeded 64-bit hash of ``text`` (BLAKE2b keyed by the seed), the base of the ladder order."""
    key = int(seed).to_bytes(8, "little", signed=True)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=key).digest(), "little")


def fingerprint(value: Any) -> str:
    """16 hex digits that change when any part of a JSON-able ``value`` changes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def philox(seed: int, purpose: int, index: int, component: int = 0) -> np.random.Generator:
    """Random stream number ``index`` of one purpose and, in a mixture, of one component."""
    return np.random.Generator(np.random.Philox(key=[seed & _MASK, index], counter=[0, 0, component, purpose]))


def mix(x: np.ndarray) -> np.ndarray:
    """A one-to-one map of uint64 that spreads them: the finaliser of SplitMix64 (Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@functools.lru_cache(maxsize=4096)
def keys(seed: int, purpose: int, bucket: int, index: int, component: int = 0) -> np.ndarray:
    """Keys for ``permute``: uint64, one per round."""
    stream = philox(seed, purpose + (bucket << 8), index, component)
    return stream.integers(0, _MASK, _ROUNDS, np.uint64, endpoint=True)


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
            left, right = right, left ^ (mix(right + key) & low)
        out[todo] = left << half | right
        todo = todo[out[todo] >= size]
    return out.astype(np.int64)
