"""The inverted index against comparing every pair of clips."""

import numpy as np
import pytest

from alp_jax.data.audit import near
from alp_jax.data.audit.columns import Ragged
from alp_jax.data.audit.near import Landmarks


def slow(held, query):
    """(query, held, votes) of every near duplicate, one pair and one shift after another."""
    result = []
    for q, mine in enumerate(query):
        for h, theirs in enumerate(held):
            common = set(mine) & set(theirs)
            votes = []
            for shift in range(256):
                agree = [k for k in common if (mine[k] - theirs[k] - shift + 1) % 256 < 3]
                times = len({mine[k] for k in agree})
                if (len(agree) >= 5 and times >= 3) or (len(agree) >= 8 and times >= 2):
                    votes.append(len(agree))
            if votes:
                result.append((q, h, max(votes)))
    return result


def draw(rng, clips):
    """Clips of landmarks as {hash: time}, from so few hashes that many are shared."""
    return [{int(h): int(rng.integers(256)) for h in rng.choice(400, 20, replace=False)} for _ in range(clips)]


def packed(clips):
    return Ragged.of([sorted(h << 8 | t for h, t in clip.items()) for clip in clips], np.uint32)


@pytest.fixture
def sides():
    rng = np.random.default_rng(4)
    held, query = draw(rng, 30), draw(rng, 40)
    for q in range(0, 40, 2):  # copies of some landmarks, late by one shift, with and without enough times
        source, late = held[q % 30], int(rng.integers(256))
        for h in list(source)[: 2 + q // 3]:
            query[q][h] = (source[h] // (1 if q % 4 else 128) * (1 if q % 4 else 128) + late + q % 3 - 1) % 256
    return held, query


@pytest.mark.parametrize("hits", [4_000_000, 50])
def test_pairs_are_those_of_comparing_all(sides, hits, monkeypatch):
    monkeypatch.setattr(near, "_HITS", hits)
    held, query = map(packed, sides)
    pairs = Landmarks(held.values, held.bounds).match(query.values, query.bounds)
    expected = slow(*sides)
    assert len(expected) > 5
    assert list(zip(pairs.query.tolist(), pairs.indexed.tolist(), pairs.votes.tolist(), strict=True)) == expected


def test_landmarks_that_many_clips_have_say_nothing():
    same = {h: h for h in range(10)}
    few, many = packed([same] * near.COMMON), packed([same] * (near.COMMON + 1))
    one = packed([same])
    assert len(Landmarks(few.values, few.bounds).match(one.values, one.bounds).indexed) == near.COMMON
    assert len(Landmarks(many.values, many.bounds).match(one.values, one.bounds).indexed) == 0


def test_empty_sides_match_nothing():
    none, one = packed([{}]), packed([{1: 2}])
    assert len(Landmarks(none.values, none.bounds).match(one.values, one.bounds).indexed) == 0
    assert len(Landmarks(one.values, one.bounds).match(none.values, none.bounds).indexed) == 0
