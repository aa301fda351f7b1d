"""Elastic landmarks: which changes they survive, what they do not take for a copy, and data sets that lack them."""

import numpy as np
import pytest

from alp_jax.bench.near_duplicates import noise, speed
from alp_jax.data.audio import elastic as module
from alp_jax.data.audio.elastic import elastic
from alp_jax.data.audio.fingerprint import find_peaks
from alp_jax.data.audit import reach, stretched
from alp_jax.data.audit.columns import Ragged
from alp_jax.data.audit.stretched import Stretched


def ragged(sounds):
    return Ragged.of([elastic(find_peaks(one)).tolist() for one in sounds], np.uint64)


def found(held, sounds):
    side, other = ragged(held), ragged(sounds)
    pairs = Stretched(side.values, side.bounds).match(other.values, other.bounds)
    return list(zip(pairs.query.tolist(), pairs.indexed.tolist(), strict=True))


@pytest.fixture(scope="module")
def sounds(sound):
    return [sound(seed, seconds) for seed, seconds in enumerate([2.0, 3.0, 4.0, 7.0] * 2)]


@pytest.mark.parametrize("factor", [0.94, 0.97, 1.0, 1.03, 1.06])
def test_another_speed_is_the_same_sound_and_no_other(sounds, factor):
    assert found(sounds, [speed(one, factor) for one in sounds]) == [(i, i) for i in range(len(sounds))]


def test_another_speed_is_found_in_noise(sounds):
    rng = np.random.default_rng(0)
    pairs = found(sounds, [noise(speed(one, 1.03), rng, 30.0) for one in sounds])
    assert all(a == b for a, b in pairs)
    assert len(pairs) >= len(sounds) - 1


def test_a_stretch_of_a_long_clip_is_found(sounds, sound):
    host = sound(99, 30.0)
    host[160_000:192_000] = sounds[3][16_000:48_000]  # 2 s
    assert found([sounds[3]], [host]) == [(0, 0)]
    assert found([host], [sounds[3]]) == [(0, 0)]


def test_twice_the_speed_is_another_sound(sounds):
    assert found(sounds, [speed(one, 2.0) for one in sounds]) == []


def packed(hashes, pitch, times):
    values = (np.asarray(hashes) << module.PITCH_BITS | np.asarray(pitch)) << module.CLOCK_BITS | np.asarray(times)
    return np.sort(values.astype(np.uint64))


def pairs_of(mine, theirs):
    pairs = Stretched(theirs, np.array([0, len(theirs)])).match(mine, np.array([0, len(mine)]))
    return pairs.votes.tolist()


N = 8
HASHES, TIMES = np.arange(N) * 1000, np.arange(N) * 100


@pytest.mark.parametrize(
    ("pitch", "times", "votes"),
    [
        (100, TIMES, N),
        (104, np.rint(TIMES * 0.96) + 500, N),
        (100 + np.arange(N) % 2, TIMES, N),  # a step apart is no difference
        (100 + stretched.MAX_BEND + 1, TIMES, None),  # too far for one sound
        (100 + 4 * np.arange(N), TIMES, None),  # no one ratio
        (100, TIMES[::-1].copy(), None),  # no one line
        (100, np.arange(N) // 4 * 100, None),  # few times: TIMES is not on a line with them
        (100, TIMES * 1.4, None),
    ],
)
def test_landmarks_must_agree_on_one_ratio_and_one_line(pitch, times, votes):
    held = packed(HASHES, np.full(N, 100), TIMES)
    assert pairs_of(packed(HASHES, np.broadcast_to(pitch, N), np.asarray(times).astype(np.int64)), held) == (
        [votes] if votes else []
    )


def test_few_landmarks_or_few_times_are_not_enough():
    n = stretched.MIN_VOTES
    for count, expected in ((n - 1, []), (n, [n])):
        one = packed(HASHES[:count], np.full(count, 7), TIMES[:count])
        assert pairs_of(one, one) == expected
    together = packed(HASHES, np.full(N, 7), np.arange(N) % (stretched.MIN_TIMES - 1))
    assert pairs_of(together, together) == []


@pytest.mark.parametrize("hits", [4_000_000, 40])
def test_blocks_change_nothing(sounds, hits, monkeypatch):
    expected = found(sounds, sounds)
    monkeypatch.setattr(stretched, "_HITS", hits)
    assert found(sounds, sounds) == expected == [(i, i) for i in range(len(sounds))]


def test_landmarks_are_in_proportion_to_the_length_and_what_was_stored_stays_comparable(sound):
    values = elastic(find_peaks(sound(1, 20.0)))
    assert len(values) == 20 * module.PER_SECOND
    assert np.all(np.diff((values >> np.uint64(26)).astype(np.int64)) > 0)
    short = elastic(find_peaks(sound(1, 3.0)))
    assert len(short) == module.AT_LEAST
    shared = np.isin(short[::4], np.array([int(text, 16) for text in STORED.split()], np.uint64))
    assert shared.mean() > 0.8, "rename ELASTIC: these landmarks match none that were stored before"


STORED = (  # every fourth
    "02ccb8310036 26257d850064 3c1d597e0088 45c2750e0088 4e7ef1740036 66e0342500ad 734378310036 820cf11d0013 "
    "98b429c70037 a448c52a007d af7a68d90058 c17fe573004a cc7999b70028 db3ac15300a4 e2d0a40b007d f997056600a4"
)


@pytest.mark.parametrize("samples", [0, 1, 400, 16_000])
def test_silence_and_nothing_have_no_landmarks(samples):
    assert len(elastic(find_peaks(np.zeros(samples, np.int16)))) == 0


def test_what_is_mostly_not_found_is_said():
    good, bad = reach.reach_lines()
    assert "speed x1.03" in good
    assert "reverberation" in bad
    assert all(0 <= found <= planted for found, planted in reach.RECALL.values())
