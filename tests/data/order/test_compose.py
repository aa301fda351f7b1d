"""Order as a pure function: schedules, shuffles, windows of shards."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alp_jax.core import hashing
from alp_jax.data.order import compose, mixture, windows


def recipe(sizes, batches, width=0, shards=40):
    """One component; with ``width``, its clips spread over shards by chance."""
    sizes_KC = np.array(sizes)[:, None]
    stages = (mixture.stage(0, [1], sizes_KC, batches),)
    where = None
    if width:
        rng = np.random.default_rng(0)
        ends = [np.cumsum(np.bincount(rng.integers(0, shards, n), minlength=shards)) for n in sizes]
        where = windows.Windows(np.arange(shards), np.array(ends)[:, None], width)
    return compose.Recipe(tuple(batches), sizes_KC, (0,), stages, where)


def test_the_order_is_the_one_that_runs_were_trained_with():
    sizes, batches, steps = np.array([1000, 777, 3]), np.array([40, 20, 8]), np.array([100, 100, 56])
    stage = compose.Stage(0, steps, (steps * batches)[:, None])
    digest = hashlib.blake2b(digest_size=8)
    for step in (0, 1, 255, 256, 1000, 123456, 10**9):
        what = compose.compose(compose.Recipe(tuple(batches), sizes[:, None], (0,), (stage,)), 3, step)
        draws = what.crop_B.astype("<f8").tobytes() + what.caption_B.astype("<f8").tobytes()
        digest.update(bytes([what.bucket]) + what.member_B.astype("<i8").tobytes() + draws)
    assert digest.hexdigest() == "d8b48c14101669e9"  # with another order, raise order.VERSION


def test_bucket_schedule_is_exact_in_every_block():
    made = recipe([400, 130, 3], [16, 8, 4])
    uses = [0] * 3
    for block in range(3):
        counts = np.zeros(3, int)
        for step in range(block * compose.BLOCK, (block + 1) * compose.BLOCK):
            bucket, use = compose.schedule(made, 3, step)
            assert use == uses[bucket]
            uses[bucket] += 1
            counts[bucket] += 1
        assert counts.tolist() == made.stages[0].steps_K.tolist()
    shares = np.array([400 / 16, 130 / 8, 3 / 4])
    np.testing.assert_allclose(made.stages[0].steps_K / compose.BLOCK, shares / shares.sum(), atol=0.01)
    assert mixture.largest_remainder([1.0, 1e6], 256, 1).tolist() == [1, 255]
    assert mixture.largest_remainder([1.0, 1.0, 1.0], 256, 1).sum() == 256


def test_a_stream_is_one_permutation_after_another():
    stream = compose.shuffled(0, 10, 3, np.arange(35))
    pieces = [compose.shuffled(0, 10, 3, np.arange(s, s + 7)) for s in range(0, 35, 7)]
    np.testing.assert_array_equal(np.concatenate(pieces), stream)
    for epoch in range(3):
        assert sorted(stream[epoch * 10 : epoch * 10 + 10]) == list(range(10))
    assert not np.array_equal(stream[:10], stream[10:20])
    assert not np.array_equal(stream, compose.shuffled(0, 10, 3, np.arange(35), component=5))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**40))
def test_permutation_is_one(size, seed):
    keys = hashing.keys(seed, windows.SHUFFLE, 0, 0)
    assert sorted(hashing.permute(np.arange(size), size, keys)) == list(range(size))


def test_permutation_is_even_and_works_at_ten_million():
    keys = [hashing.keys(seed, windows.SHUFFLE, 0, 0) for seed in range(2000)]
    first = np.array([hashing.permute(np.arange(10), 10, key) for key in keys])
    for place in range(10):
        counts = np.bincount(first[:, place], minlength=10)
        assert ((counts - 200) ** 2 / 200).sum() < 40  # chi squared, 9 degrees: 1e-5 beyond 39
    far = hashing.permute(np.arange(9_999_000, 10_000_000), 10_000_000, keys[1])
    assert len(set(far.tolist())) == 1000
    assert far.max() < 10_000_000
    assert 0.4 < far.mean() / 10_000_000 < 0.6


SIZES, BATCHES = [2000, 900, 37, 3], [16, 8, 4, 8]


def test_passes_bring_every_bucket_through_its_clips_as_often_as_the_others():
    made = recipe(SIZES, BATCHES, width=4)
    uses = [0] * 4
    for step in range(1500):
        bucket, use = compose.schedule(made, 5, step)
        assert use == uses[bucket]
        uses[bucket] += 1
        epochs = [count * batch / size for count, batch, size in zip(uses[:2], BATCHES, SIZES, strict=False)]
        assert abs(epochs[0] - epochs[1]) < 2.5 * 16 / 900
    assert uses[2] * 4 / 37 == pytest.approx(uses[0] * 16 / 2000, abs=0.2)
    assert uses[3] == 3  # of 6 passes with 3 clips for batches of 8
    assert compose.schedule(made, 5, 10**9) == compose.schedule(made, 5, 10**9)


def test_windows_hold_every_clip_once_per_epoch_and_few_shards_at_a_time():
    made = recipe(SIZES, BATCHES, width=4)
    for bucket, size in enumerate(SIZES):
        members = made.windows.members(bucket, 0, 0, 5, np.arange(2 * size))
        assert sorted(members[:size]) == sorted(members[size:]) == list(range(size))
        cut = np.concatenate(
            [made.windows.members(bucket, 0, 0, 5, np.arange(s, min(s + 7, 2 * size))) for s in range(0, 2 * size, 7)]
        )
        np.testing.assert_array_equal(cut, members)
    at_once, visited = [], set()
    for step in range(800):
        what = compose.compose(made, 5, step)
        shards = np.searchsorted(made.windows.ends_KCF[what.bucket, 0], what.member_B, side="right")
        visited |= set(shards.tolist())
        now, then = made.windows.around(what.bucket, 5, what.first)
        at_once.append((set(shards.tolist()), {*now, *then}))
    assert visited == set(range(40))
    for span in range(0, 800, 8):  # 8 steps touch two windows, or three at a border of passes
        assert len(set().union(*(now for now, _ in at_once[span : span + 8]))) <= 12
    assert np.mean([now <= around for now, around in at_once]) > 0.95
    assert all(len(around) <= 8 for _, around in at_once)
