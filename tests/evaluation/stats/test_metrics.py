"""Metrics against scikit-learn, and what they say of single clips against leaving each out."""

import warnings

import numpy as np
import pytest
from sklearn import metrics as oracle

from alp_jax.evaluation.stats import metrics

RNG = np.random.default_rng(0)


def test_accuracies_match_scikit_learn():
    target, guess = RNG.integers(4, size=60), RNG.integers(4, size=60)
    correct = target == guess
    assert metrics.mean(correct).value == pytest.approx(oracle.accuracy_score(target, guess))
    ours = metrics.balanced_accuracy(correct, target)
    assert ours.value == pytest.approx(oracle.balanced_accuracy_score(target, guess))
    assert metrics.mean(correct).influence_N.sum() == pytest.approx(0)
    assert ours.influence_N.sum() == pytest.approx(0)


def test_balanced_accuracy_moves_as_its_classes_do():
    target = np.repeat([0, 1, 2], [30, 8, 2])
    correct = RNG.random(40) < 0.5
    influence = metrics.balanced_accuracy(correct, target).influence_N
    for clip in range(40):
        more = np.append(np.arange(40), [clip] * 1)
        moved = oracle.balanced_accuracy_score(target[more], np.where(correct, target, 9)[more])
        size = (target == target[clip]).sum()
        expected = (moved - metrics.balanced_accuracy(correct, target).value) * (size + 1) / size
        assert influence[clip] == pytest.approx(expected * np.sqrt(size / (size - 1)), abs=1e-9)


def test_a_class_that_a_resample_lacks_keeps_its_recall():
    target, correct = np.repeat([0, 1], [3, 3]), np.array([1, 1, 0, 1, 0, 0], bool)
    found = metrics.balanced_accuracy(correct, target)
    for counts, recalls in (
        ([2, 2, 2, 0, 0, 0], [2 / 3, 1 / 3]),  # class 1 was not drawn: nothing is known of it, nothing moves
        ([0, 0, 0, 2, 2, 2], [2 / 3, 1 / 3]),
        ([6, 0, 0, 0, 0, 0], [2 / 3 + 6 / 3 * np.sqrt(3 / 2) / 3, 1 / 3]),  # 1 - 2/3, six times, in thirds, widened
    ):
        assert found.value + found.influence_N @ counts == pytest.approx(np.mean(recalls)), counts


def test_a_class_of_one_clip_moves_the_mean_as_its_own_absence_does():
    target, correct = np.array([0, 0, 0, 0, 1]), np.array([1, 1, 0, 1, 0], bool)
    found = metrics.balanced_accuracy(correct, target)
    inside = np.where(correct[:4], 1 / 4, -3 / 4) * np.sqrt(4 / 3) / 4
    expected = np.append(inside, 0 - 3 / 8) / 2  # nobody knows its recall: its distance from the mean of classes
    np.testing.assert_allclose(found.influence_N, expected - expected.mean())
    # a resample without the clip: the class that is always wrong is gone, the mean is the other's recall or nearly so
    assert found.value < found.value - found.influence_N[4] <= 3 / 4


def test_average_precision_matches_scikit_learn_with_ties():
    for _ in range(20):
        target = (RNG.random((60, 5)) < 0.3).astype(float)
        score = np.round(RNG.standard_normal((60, 5)) + target, 1)  # rounded, so that many are equal
        expected = oracle.average_precision_score(target, score, average="macro")
        assert metrics.mean_average_precision(score, target).value == pytest.approx(expected)


@pytest.mark.parametrize("positives", [1, 2, 7])
def test_influence_and_bias_of_average_precision_are_those_of_leaving_each_clip_out(positives):
    target = np.arange(30) < positives
    score = np.round(RNG.standard_normal(30) + target, 1)
    value = oracle.average_precision_score(target, score)
    left = np.full(30, value)
    for clip in range(30):
        if positives > 1 or not target[clip]:
            others = np.arange(30) != clip
            left[clip] = oracle.average_precision_score(target[others], score[others])
    found = metrics.average_precision(score, target)
    change = (value - left) * np.where(target, np.sqrt((positives - 1) / positives), 1)
    np.testing.assert_allclose(found.influence_N, change - change.mean(), atol=1e-12)
    bias = 29 * (left.mean() - value)
    if positives == 1:
        rank = (score >= score[0]).sum()
        bias += 1 / rank - 0.5 / (rank - 0.5)  # it is half above its own threshold
    assert found.bias == pytest.approx(bias)


def test_a_class_without_positives_does_not_count_and_moves_nothing():
    target = np.zeros((60, 2))
    target[:10, 0] = 1
    found = metrics.mean_average_precision(RNG.random((60, 2)), target)
    score = RNG.random((60, 2))
    found, alone = (metrics.mean_average_precision(score[:, :k], target[:, :k]) for k in (2, 1))
    assert found.value == alone.value
    np.testing.assert_array_equal(found.influence_N, alone.influence_N)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(metrics.mean_average_precision(score, np.zeros((60, 2))).value)


def test_many_classes_are_read_a_few_at_a_time(monkeypatch):
    score, target = RNG.random((50, 9)), RNG.random((50, 9)) < 0.1
    whole = metrics.mean_average_precision(score, target)
    monkeypatch.setattr(metrics, "CLASSES", 2)
    parts = metrics.mean_average_precision(score, target)
    assert parts.value == pytest.approx(whole.value)
    np.testing.assert_allclose(parts.influence_N, whole.influence_N)
    assert parts.bias == pytest.approx(whole.bias)


def test_medians_are_those_of_clips_that_occur_as_often():
    rank = RNG.integers(1, 9, size=25)
    weight = RNG.integers(0, 4, size=(40, 25))
    expected = [np.median(np.repeat(rank, w)) for w in weight]
    np.testing.assert_array_equal(metrics.medians(rank, weight.astype(float)), expected)
