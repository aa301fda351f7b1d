"""Hashes must never change: stored ladders and fingerprints depend on them."""

from alp_jax.core.hashing import fingerprint, hash64


def test_values_are_fixed_for_ever():
    assert hash64(0, "clip") == 10402401264014034626
    assert fingerprint({"b": [1, 2.5], "a": None}) == "626e7f2e53eac9f3"


def test_seed_and_text_matter_and_key_order_does_not():
    assert len({hash64(s, t) for s in (0, 1, -1) for t in ("a", "b", "")}) == 9
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
