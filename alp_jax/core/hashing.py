"""Hashes that are the same on every machine, in every process and in every Python version."""

import hashlib
import json
from typing import Any


def hash64(seed: int, text: str) -> int:
    """Seeded 64-bit hash of ``text`` (BLAKE2b keyed by the seed), the base of the ladder order."""
    key = int(seed).to_bytes(8, "little", signed=True)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=key).digest(), "little")


def fingerprint(value: Any) -> str:
    """16 hex digits that change when any part of a JSON-able ``value`` changes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
