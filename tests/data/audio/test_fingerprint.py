"""Landmarks: what survives, what does not match, and how many there are."""

import numpy as np
import pytest

from alp_jax.data.audio import fingerprint as module
from alp_jax.data.audit.columns import Ragged
from alp_jax.data.audit.near import Landmarks
from alp_jax.data.audit.planted import CODECS, change_gain, re_encode, trim
from alp_jax.data.store.schema import SCHEMA_VERSION


def fingerprint(sound):
    return module.fingerprint(module.find_peaks(sound))


def ragged(sounds):
    return Ragged.of([fingerprint(one).tolist() for one in sounds], np.uint32)


def found(held, sounds):
    """Which of the held sounds each of the sounds is found in."""
    side, other = ragged(held), ragged(sounds)
    pairs = Landmarks(side.values, side.bounds).match(other.values, other.bounds)
    return list(zip(pairs.query.tolist(), pairs.indexed.tolist(), strict=True))


@pytest.fixture(scope="module")
def sounds(sound):
    return [sound(seed, seconds) for seed, seconds in enumerate([1.0, 1.5, 2.0, 3.0, 4.0, 7.0] * 2)]


VERSIONS = {f"{c[0]} {c[2]}": lambda a, rng, c=c: re_encode(a, c) for c in CODECS} | {
    "trimmed": trim,
    "gain": change_gain,
    "all of it": lambda a, rng: re_encode(change_gain(trim(a, rng), rng), CODECS[0]),
}
OF_VERSION_2 = (  # every fourth
    "034b2689 1430ac7d 19c62958 2a394590 3cbdf329 458f3829 5d1ff271 70326a67 "
    "81a8a23d 946414a4 9fd77113 b4ac3236 bc44297d ce361b7c e4b34c64 f0bcfe13"
)
LOST = {"OGG 22050": 1, "OGG 48000": 1, "all of it": 2}  # of a 1 s clip little is left then


@pytest.mark.parametrize("name", VERSIONS)
def test_a_version_of_a_sound_is_found_in_that_sound_alone(sounds, name):
    rng = np.random.default_rng(3)
    hits = found(sounds, [VERSIONS[name](one, rng) for one in sounds])
    assert all(query == held for query, held in hits)
    assert len(hits) >= len(sounds) - LOST.get(name, 0)


def test_unrelated_sounds_do_not_match(sounds, sound):
    assert found(sounds, [sound(seed, 3.0) for seed in range(100, 160)]) == []


def test_a_short_piece_of_a_long_sound_is_found(sound):
    long = sound(5, 100.0)
    assert module.PER_STRETCH < len(fingerprint(long)) <= 4 * module.PER_STRETCH
    assert found([long], [long[16000 * 61 : 16000 * 69], sound(6, 8.0)]) == [(0, 0)]


def test_stored_landmarks_stay_comparable(sound):
    """Data sets of one schema version are compared with each other: another making needs another version."""
    assert SCHEMA_VERSION == 2, "landmarks of the new version go here"
    values = fingerprint(sound(1, 3.0))
    shared = np.isin(np.array([int(value, 16) for value in OF_VERSION_2.split()], np.uint32), values)
    assert shared.mean() > 0.8, "raise SCHEMA_VERSION: these landmarks match none that were stored before"


def test_values_are_distinct_hashes_in_ascending_order_and_few(sound):
    values = fingerprint(sound(1, 8.0))
    assert values.dtype == np.uint32
    assert len(values) == module.PER_STRETCH
    assert (np.diff((values >> module.TIME_BITS).astype(np.int64)) > 0).all()


@pytest.mark.parametrize("samples", [1, 800, 16000])
def test_sounds_without_peaks_have_no_landmarks(samples):
    t = np.arange(samples) / 16000
    assert len(fingerprint(np.zeros(samples, np.int16))) == 0
    tone = fingerprint((8000 * np.sin(2 * np.pi * 1000 * t)).astype(np.int16))
    assert len(tone) < module.PER_STRETCH / 2


def test_working_in_blocks_changes_nothing(sound, monkeypatch):
    whole = sound(2, 9.0)
    expected = fingerprint(whole)
    monkeypatch.setattr(module, "_BLOCK", 48)
    np.testing.assert_array_equal(fingerprint(whole), expected)
