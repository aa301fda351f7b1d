"""Intervals against known populations: they cover, they hold the value, they stay in range, and they pair."""

import tracemalloc

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from alp_jax.core.metrics import METRICS
from alp_jax.evaluation.stats import bootstrap, metrics
from alp_jax.evaluation.stats.bootstrap import Resamples, entries


def clips(count, size=1):
    return [f"group {i // size}" for i in range(count)]


def average_precision_of_all(share, lift):
    """Of endless clips, a ``share`` of them positive, whose scores are normal and higher by ``lift``."""

    def precision(score):
        right = share * norm.sf(score - lift)
        return right / (right + (1 - share) * norm.sf(score)) * norm.pdf(score - lift)

    return quad(precision, lift - 8, lift + 8, limit=200)[0]


def tagged(rng, count, shares, lifts):
    """Scores and targets of clips, every class with a positive."""
    while True:
        target = rng.random((count, len(shares))) < shares
        if target.any(0).all():
            return rng.standard_normal(target.shape) + target * lifts, target


def judged(name, estimate, groups):
    found = entries({name: [estimate]}, Resamples(groups), {})[name]
    low, high = found["interval"]
    assert METRICS[name].low <= low <= found["value"] <= high <= METRICS[name].high
    return found["value"], low, high


@pytest.mark.parametrize(
    ("count", "classes", "rarest", "least"), [(100, 8, 0.01, 0.88), (300, 8, 0.01, 0.9), (400, 32, 0.02, 0.9)]
)
def test_intervals_of_mean_average_precision_cover_what_endless_clips_would_give(count, classes, rarest, least):
    """The central 95% of scored resamples cover 58 and 70 times in 100 in the first two."""
    rng = np.random.default_rng(classes)
    shares, lifts = np.geomspace(rarest, 0.1, classes), np.resize([0.7, 1.3, 2.0, 2.7], classes)
    truth = np.mean([average_precision_of_all(*pair) for pair in zip(shares, lifts, strict=True)])
    found = []
    for _ in range(80):
        estimate = metrics.mean_average_precision(*tagged(rng, count, shares, lifts))
        found.append(judged("map", estimate, clips(count)))
    value, low, high = np.array(found).T
    assert ((low <= truth) & (truth <= high)).mean() >= least
    assert ((low <= value.mean()) & (value.mean() <= high)).mean() >= least  # of sets of this size
    assert 0.4 < ((value - low) / (high - low)).mean() < 0.65


def test_the_value_of_a_tiny_set_is_in_its_interval():
    rng = np.random.default_rng(0)
    for _ in range(60):
        score, target = tagged(rng, rng.integers(4, 25), np.full(3, 0.2), np.ones(3))
        judged("map", metrics.mean_average_precision(np.round(score, 1), target), clips(len(score)))


@pytest.mark.parametrize(("truth", "count", "size"), [(0.7, 150, 1), (0.95, 40, 1), (0.05, 60, 1), (0.7, 200, 5)])
def test_intervals_of_shares_cover(truth, count, size):
    rng, covered = np.random.default_rng(1), 0
    for _ in range(300):
        own = rng.beta(5 * truth, 5 * (1 - truth), count // size).repeat(size) if size > 1 else truth
        _, low, high = judged("recall_at_10", metrics.mean(rng.random(count) < own), clips(count, size))
        covered += low <= truth <= high
    assert 270 <= covered <= 297


def test_intervals_of_balanced_accuracy_and_of_skewed_scores_cover():
    rng, right, covered = np.random.default_rng(2), np.array([0.9, 0.7, 0.4]), np.zeros(2)
    for _ in range(200):
        target = rng.choice(3, 120, p=[0.6, 0.3, 0.1])
        balanced = metrics.balanced_accuracy(rng.random(120) < right[target], target)
        _, low, high = judged("balanced_accuracy", balanced, clips(120))
        covered[0] += low <= right.mean() <= high
        _, low, high = judged("cider_d", metrics.mean(rng.gamma(0.6, 1.0, 120)), clips(120))
        covered[1] += low <= 0.6 <= high
    assert (covered >= 180).all()


def test_intervals_of_the_median_rank_cover():
    rng, covered = np.random.default_rng(3), 0
    for _ in range(200):
        rank = 1 + np.floor(rng.exponential(20, 120))
        value, drawn = np.median(rank), Resamples(clips(120))
        of_resamples = drawn.apply(lambda w, rank=rank: metrics.medians(rank, w))
        low, high = bootstrap.quantiles(value, of_resamples, drawn.freedom(), (1.0, np.inf))
        assert low <= value <= high
        covered += low <= 14 <= high
    assert covered >= 180


def test_no_error_among_few_clips_does_not_mean_that_there_is_none():
    value, low, high = judged("accuracy", metrics.mean(np.ones(20)), clips(20))
    assert (value, high) == (1.0, 1.0)
    assert 0.8 < low < 0.86  # Wilson: 0.84
    assert judged("recall_at_10", metrics.mean(np.zeros(20)), clips(20))[1:] == pytest.approx((0, 1 - low))
    assert judged("accuracy", metrics.mean(np.ones(2000)), clips(2000))[1] > 0.99


def test_groups_are_resampled_whole_and_few_groups_are_not():
    drawn = Resamples(clips(150, 10))
    assert (drawn.unit, drawn.units) == ("groups", 15)
    weight = drawn.apply(lambda weight_rN: weight_rN)
    assert weight.shape == (bootstrap.RESAMPLES, 150)
    assert (weight.sum(1) == 150).all()
    assert (weight.reshape(len(weight), 15, 10).std(2) == 0).all()
    correct = np.repeat(np.arange(15) % 2 == 0, 10)
    wide, narrow = (judged("accuracy", metrics.mean(correct), g) for g in (clips(150, 10), ["a", "b"] * 75))
    assert wide[2] - wide[1] > 2 * (narrow[2] - narrow[1])
    assert Resamples(clips(40, 10)).unit == "groups"
    few = Resamples(["a", "b", "c"] * 50, np.arange(150) // 5)
    assert (few.unit, few.units) == ("clips", 30)  # five captions of a clip are one


def unlike_groups(rng, sizes, within, truth=0.8):
    """Right or wrong of the clips of groups, alike ``within`` them, and their groups."""
    share_U = rng.beta(truth * (1 - within) / within, (1 - truth) * (1 - within) / within, len(sizes))
    return rng.random(sum(sizes)) < share_U.repeat(sizes), np.repeat(np.arange(len(sizes)), sizes).astype(str)


@pytest.mark.parametrize(
    ("sizes", "within"), [([100] * 2 + [5] * 10, 0.3), ([20] * 9, 0.3), ([40] * 5, 0.1), ([60] * 4 + [6] * 36, 0.3)]
)
def test_intervals_cover_where_groups_are_few_or_a_few_hold_most_clips(sizes, within):
    """As clips, or with a degree of freedom for every small group, 50 to 87 in 100."""
    rng, covered = np.random.default_rng(8), np.zeros(2)
    for _ in range(200):
        right, groups = unlike_groups(rng, sizes, within)
        _, low, high = judged("accuracy", metrics.mean(right), groups)
        covered[0] += low <= 0.8 <= high
        drawn = Resamples(groups, count=100)  # as a metric without influences
        scored = bootstrap.scored("psds1", right.mean(), drawn.apply(lambda w, r=right: w @ r / w.sum(1)), drawn)
        low, high = scored["interval"]
        covered[1] += low <= 0.8 <= high
    assert (covered >= 182).all(), covered


def test_intervals_of_the_median_rank_of_few_groups_cover():
    rng, covered = np.random.default_rng(9), 0
    for _ in range(200):
        rank = 1 + np.floor(np.exp(rng.normal(2, 1, 6).repeat(20) + rng.normal(0, 1, 120)))
        value, drawn = np.median(rank), Resamples(clips(120, 20), count=200)
        of_resamples = drawn.apply(lambda w, rank=rank: metrics.medians(rank, w))
        low, high = bootstrap.quantiles(value, of_resamples, drawn.freedom(), (1.0, np.inf))
        assert 1 <= low <= value <= high
        covered += low <= 8 <= high
    assert covered >= 184, covered


def test_linear_resamples_are_those_that_score_every_draw():
    rng, drawn = np.random.default_rng(4), Resamples(clips(90, 3))
    value = rng.random((2, 3, 90))
    estimates = np.stack([[metrics.mean(row).influence_N for row in rows] for rows in value])
    added = drawn.linear(estimates)
    assert added.shape == (2, 3, bootstrap.RESAMPLES)
    scored = drawn.apply(lambda w: w @ value[1, 2] / w.sum(1))
    np.testing.assert_allclose(value[1, 2].mean() + added[1, 2], scored)


def test_two_encoders_on_the_same_clips_are_compared_pair_by_pair():
    """Their difference covers, and is known better than either."""
    rng, covered = np.random.default_rng(5), 0
    for _ in range(100):
        hard = rng.random(200)
        a, b = (metrics.mean(hard < share) for share in (0.6, 0.66))
        flip = rng.random(200) < 0.05
        b = metrics.mean(np.where(flip, rng.random(200) < 0.6, hard < 0.66))
        both = np.stack([Resamples(clips(200)).linear(e.influence_N) for e in (a, b)])  # drawn twice: the same draws
        low, high = bootstrap.interval(b.value - a.value, both[1] - both[0], 199, (-1.0, 1.0))
        covered += low <= 0.057 <= high
        alone = [bootstrap.interval(e.value, e.value + r, 199, (0, 1)) for e, r in zip((a, b), both, strict=True)]
        assert high - low < min(up - down for down, up in alone)
    assert covered >= 88
    assert not np.array_equal(*(Resamples(clips(50), seed=s).linear(np.arange(50.0)) for s in (0, 1)))


def test_seeds_widen_an_interval():
    clipwise = np.random.default_rng(6).random(400)
    same = [metrics.mean(clipwise < 0.5)] * 3
    apart = [metrics.mean(clipwise < share) for share in (0.35, 0.5, 0.65)]
    narrow, wide = (entries({"accuracy": e}, Resamples(clips(400)), {})["accuracy"]["interval"] for e in (same, apart))
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])


@pytest.mark.parametrize("apart", [0.0, 0.05, 0.15])
def test_intervals_over_three_seeds_cover_what_all_seeds_would_give(apart):
    """With the degrees of freedom of the clips, 89 in 100 where seeds differ most."""
    rng, covered = np.random.default_rng(10), 0
    for _ in range(300):
        clipwise = rng.random(500)
        seeds = [metrics.mean(clipwise < share) for share in 0.7 + apart * rng.standard_normal(3)]
        low, high = entries({"accuracy": seeds}, Resamples(clips(500), count=200), {})["accuracy"]["interval"]
        covered += low <= 0.7 <= high
    assert covered >= 277, covered


def test_memory_is_a_block_of_counts_and_a_number_per_clip_and_resample(monkeypatch):
    monkeypatch.setattr(bootstrap, "BLOCK", 1 << 16)
    drawn, influence = Resamples(clips(20_000)), np.random.default_rng(7).standard_normal((3, 20_000))
    tracemalloc.start()
    try:
        added = drawn.linear(influence)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10e6  # all counts at once: 160 MB
    assert added.std(1) == pytest.approx(influence.std(1) * np.sqrt(20_000), rel=0.1)
