"""Counting in a stream: exact while small, close and honest beyond, and the same in any order and any pieces."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from alp_jax.data.text.counters import DistinctHashes, FrequentTexts, HashSample


def hashes(n, seed=0):
    return np.random.default_rng(seed).integers(0, 1 << 64, n, np.uint64)


def counted(values, limit, pieces=1):
    counter = DistinctHashes(limit)
    for piece in np.array_split(values, pieces):
        counter.add(piece)
    return counter


def test_distinct_is_exact_up_to_the_limit_and_says_when_it_is_not():
    values = hashes(1000)
    assert counted(np.tile(values, 3), 1000, 7).count() == (1000, 0.0)
    number, error = counted(values, 999).count()
    assert number != 1000
    assert 0.02 < error < 0.05


def test_an_estimate_is_within_four_standard_errors():
    for seed in range(20):
        number, error = counted(hashes(40_000, seed), 1000, 3).count()
        assert abs(number - 40_000) <= 4 * error * 40_000
        assert 0.02 < error < 0.05


def test_distinct_does_not_depend_on_order_or_pieces():
    values = hashes(5000)
    want = counted(values, 300).count()
    assert counted(values[::-1], 300, 11).count() == want
    whole, other = counted(values[:4500], 300), counted(values[4000:], 300)
    other.merge(whole)
    assert other.count() == want
    small = counted(values[:10], 300)
    small.merge(counted(values, 300))
    assert small.count() == want


@given(st.lists(st.sampled_from("abcdefghij"), max_size=60), st.integers(1, 4))
def test_frequent_texts_are_exact_or_too_low_by_the_slack(texts, limit):
    counter, split = FrequentTexts(limit), FrequentTexts(limit)
    for text in texts:
        counter.add([text])
    split.add(texts[:20])
    rest = FrequentTexts(limit)
    rest.add(texts[20:])
    split.merge(rest)
    for found in (counter, split):
        top = dict(found.top(10))
        assert len(top) <= 2 * limit
        assert found.slack <= len(texts) / limit
        for text in set(texts):
            assert texts.count(text) - found.slack <= top.get(text, 0) <= texts.count(text)


def test_frequent_texts_are_in_order():
    counter = FrequentTexts(10)
    counter.add(["b", "c", "a", "b", "a", "d"])
    assert counter.top(3) == [("a", 2), ("b", 2), ("c", 1)]
    assert counter.slack == 0


def test_a_sample_depends_on_keys_alone():
    keys = hashes(1000)
    texts = [str(key) for key in keys]
    want = [str(key) for key in np.sort(keys)[:50]]
    for order in (np.arange(1000), np.argsort(keys), np.argsort(keys)[::-1]):
        sample, first = HashSample(50), HashSample(50)
        for part in np.array_split(order, 13):
            sample.add(keys[part], [texts[i] for i in part])
        first.add(keys[order[:500]], [texts[i] for i in order[:500]])
        rest = HashSample(50)
        rest.add(keys[order[500:]], [texts[i] for i in order[500:]])
        first.merge(rest)
        assert sample.texts() == first.texts() == want
        assert sample.seen == first.seen == 1000
    few = HashSample(50)
    few.add(keys[:3], texts[:3])
    assert sorted(few.texts()) == sorted(texts[:3])
