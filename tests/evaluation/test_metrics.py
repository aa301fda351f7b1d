"""Metrics against scikit-learn, intervals against known sampling distributions."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from alp_jax.evaluation import bootstrap, metrics

RNG = np.random.default_rng(0)
ONES = np.ones((1, 60))


def test_accuracies_match_scikit_learn():
    target, guess = RNG.integers(4, size=60), RNG.integers(4, size=60)
    correct = target == guess
    assert metrics.accuracy(correct, ONES)[0] == pytest.approx(oracle.accuracy_score(target, guess))
    ours = metrics.balanced_accuracy(correct, target, ONES)[0]
    assert ours == pytest.approx(oracle.balanced_accuracy_score(target, guess))


def test_average_precision_matches_scikit_learn_with_ties_and_weights():
    target = (RNG.random((60, 5)) < 0.3).astype(float)
    score = np.round(RNG.standard_normal((60, 5)) + target, 1)  # rounded, so that many are equal
    weight = RNG.integers(0, 3, size=(4, 60)).astype(np.float32)
    expected = [oracle.average_precision_score(target, score, average="macro", sample_weight=w) for w in weight]
    np.testing.assert_allclose(metrics.mean_average_precision(score, target, weight), expected, rtol=1e-6)


def test_a_class_without_positives_does_not_count():
    target = np.zeros((60, 2))
    target[:10, 0] = 1
    assert metrics.mean_average_precision(target + 0.0, target, ONES)[0] == pytest.approx(1.0)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng, covered = np.random.default_rng(1), 0
    for trial in range(100):
        correct = rng.random(150) < 0.7
        weight, unit = bootstrap.weights([f"clip {i}" for i in range(150)], seed=trial)
        value, (low, high) = bootstrap.estimate(lambda w, c=correct: metrics.accuracy(c, w), weight)
        assert value == pytest.approx(correct.mean())
        covered += low <= 0.7 <= high
    assert unit == "groups"
    assert 88 <= covered <= 99


def test_groups_are_resampled_whole_and_few_groups_are_not():
    groups = [f"group {i // 10}" for i in range(150)]
    weight, unit = bootstrap.weights(groups)
    assert unit == "groups"
    assert (weight[0] == 1).all()
    assert (weight.reshape(len(weight), 15, 10).std(2) == 0).all()
    correct = np.repeat(np.arange(15) % 2 == 0, 10)
    wide = np.diff(bootstrap.estimate(lambda w: metrics.accuracy(correct, w), weight)[1])
    single, unit = bootstrap.weights(["a", "b"] * 75)
    assert unit == "clips"
    narrow = np.diff(bootstrap.estimate(lambda w: metrics.accuracy(correct, w), single)[1])
    assert wide > 2 * narrow
