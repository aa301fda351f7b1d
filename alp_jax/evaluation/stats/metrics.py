"""Metrics of test clips, each with every clip's influence on it, so that resampling is a matrix product."""

import numpy as np

from alp_jax.evaluation.stats.bootstrap import Estimate

CLASSES = 64  # classes whose scores are copied at a time


def mean(value_N: np.ndarray, counted_N: np.ndarray | None = None) -> Estimate:
    """The mean over clips, or over those that are counted (others may be NaN); 0 if none are."""
    value_N = np.asarray(value_N, np.float64)
    if counted_N is None:
        counted_N = np.ones(len(value_N), bool)
    total = max(int(counted_N.sum()), 1)
    value = float(value_N[counted_N].sum() / total)
    influence_N = np.where(counted_N, value_N - value, 0.0) / total
    return Estimate(value, influence_N, 0.0, counted_N, bool(np.isin(value_N[counted_N], (0, 1)).all()))


def balanced_accuracy(correct_N: np.ndarray, target_N: np.ndarray) -> Estimate:
    """The share of correct clips in each class that occurs, averaged over those classes."""
    _, class_N, count_C = np.unique(target_N, return_inverse=True, return_counts=True)
    recall_C = np.bincount(class_N, correct_N, len(count_C)) / count_C
    # a clip moves its own class's recall, by 1 / count, and each recall has 1 / classes of the mean
    inside_N = (correct_N - recall_C[class_N]) * _widened(count_C)[class_N] / count_C[class_N]
    # A class of one clip deviates from itself by nothing and would seem to be known exactly, so the deviation of its
    # recall from the mean over classes stands in.
    alone_N = np.where(count_C == 1, recall_C - recall_C.mean(), 0.0)[class_N]
    return Estimate(float(recall_C.mean()), _centred((inside_N + alone_N) / len(count_C)))


def mean_average_precision(score_NC: np.ndarray, target_NC: np.ndarray) -> Estimate:
    """Average precision averaged over the classes with a positive; NaN if there are none.

    One positive does not show how another would rank, so its class's deviation from the mean over classes stands in.
    """
    clips, classes = score_NC.shape
    influence_N, values, biases, alone = np.zeros(clips), [], [], []
    for first in range(0, classes, CLASSES):
        # a class is a column: copied to contiguous rows, a block at a time, so that no second table is in memory
        score_CN = np.ascontiguousarray(score_NC[:, first : first + CLASSES].T)
        target_CN = np.ascontiguousarray(target_NC[:, first : first + CLASSES].T) > 0
        for score_N, target_N in zip(score_CN, target_CN, strict=True):
            if target_N.any():
                one = average_precision(score_N, target_N)
                influence_N += one.influence_N
                if target_N.sum() == 1:
                    alone.append((int(target_N.argmax()), len(values)))
                values.append(one.value)
                biases.append(one.bias)
    if not values:
        return Estimate(np.nan, influence_N)
    value = float(np.mean(values))
    for clip, at in alone:  # only now is the mean over all classes known
        influence_N[clip] += values[at] - value
    return Estimate(value, _centred(influence_N / len(values)), float(np.mean(biases)))


def average_precision(score_N: np.ndarray, target_N: np.ndarray) -> Estimate:
    """Average precision of one class as scikit-learn defines it (ties share a threshold); NaN without positives.

    Influences and bias are the jackknife's, from the values without each clip in turn; sums from the lowest score
    upwards give them all in O(N log N). The value is too high because a positive counts as being above its own
    threshold, and because few clips are above it. With a single positive the jackknife cannot show the first, so its
    mid-rank does.
    """
    order = np.argsort(-score_N, kind="stable")
    sorted_N, hit_N = score_N[order], np.asarray(target_N)[order] > 0
    # The last clip of each block of equal scores. Precision is defined at these alone: taken within a block, it would
    # depend on the order in which clips of equal score happen to be stored.
    last_B = np.append(np.flatnonzero(sorted_N[1:] != sorted_N[:-1]), len(sorted_N) - 1)
    block_N = np.repeat(np.arange(len(last_B)), np.diff(last_B, prepend=-1))
    above_B, right_B = last_B + 1.0, np.cumsum(hit_N)[last_B].astype(np.float64)
    hits_B, positives = np.diff(right_B, prepend=0), right_B[-1]
    if not positives:
        return Estimate(np.nan, np.zeros(len(sorted_N)))
    # Below, "better" sums the blocks of higher scores, which losing a clip of this block leaves alone; from this block
    # on there is one clip fewer above each threshold, and one hit fewer too if the clip is a positive.
    part_B, fewer_B = hits_B * right_B / above_B, np.maximum(above_B - 1, 1)
    value, better_B = part_B.sum() / positives, np.cumsum(part_B) - part_B
    wrong_B = (better_B + _from_here(hits_B * right_B / fewer_B)) / positives  # without a negative of the block
    here_B, below_B = (hits_B - 1) * (right_B - 1) / fewer_B, hits_B * (right_B - 1) / fewer_B
    right_gone_B = (better_B + here_B + _from_here(below_B) - below_B) / max(positives - 1, 1)
    if positives == 1:  # without it there is no average precision: it counts as unchanged
        right_gone_B = np.full(len(last_B), value)
    change_N = value - np.where(hit_N, right_gone_B[block_N], wrong_B[block_N])
    bias = -(len(change_N) - 1) * change_N.mean()
    if positives == 1:  # 1 / value is its rank; at its own threshold it counts half, as a hit and as a clip
        bias += value - 0.5 / (1 / value - 0.5)
    # Leaving out one of P positives divides its deviation by P - 1. The factor makes that sqrt(P (P - 1)), a deviation
    # ``_widened`` over P, as in ``balanced_accuracy``; it comes after the bias, which needs the plain jackknife.
    change_N = np.where(hit_N, change_N * np.sqrt((positives - 1) / positives), change_N)
    influence_N = np.empty(len(change_N))
    influence_N[order] = _centred(change_N)
    return Estimate(float(value), influence_N, float(bias))


def medians(rank_N: np.ndarray, weight_RN: np.ndarray) -> np.ndarray:
    """value_R, medians of ranks that count ``weight_RN`` times each; halfway between the two in the middle."""
    ranks, member_N = np.unique(rank_N, return_inverse=True)
    order = np.argsort(member_N, kind="stable")
    # every distinct rank occurs, so no segment is empty; of an empty one, reduceat would return a single weight, not 0
    first = np.searchsorted(member_N[order], np.arange(len(ranks)))
    upto_RK = np.cumsum(np.add.reduceat(weight_RN[:, order], first, axis=1), 1)
    half_R1 = upto_RK[:, -1:] / 2
    lower_R, upper_R = (upto_RK < half_R1).sum(1), (upto_RK <= half_R1).sum(1)
    return (ranks[lower_R] + ranks[upper_R]) / 2


def standardise(train_x: np.ndarray, test_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both shifted and scaled to mean 0 and deviation 1 over the training rows; constant features become 0."""
    mean, std = train_x.mean(0), train_x.std(0)
    # A constant feature has a deviation of rounding errors, relative to the largest value; dividing by it would make
    # noise as large as any other feature.
    scale = np.divide(1.0, std, out=np.zeros_like(std), where=std > 1e-6 * max(1.0, float(np.abs(train_x).max())))
    return (train_x - mean) * scale, (test_x - mean) * scale


def _from_here(value_B: np.ndarray) -> np.ndarray:
    """Sums from each entry to the last."""
    return np.cumsum(value_B[::-1])[::-1]


def _widened(count: np.ndarray | float) -> np.ndarray:
    """The factor by which deviations from the mean of ``count`` values are too small."""
    return np.sqrt(count / np.maximum(count - 1, 1))


def _centred(influence_N: np.ndarray) -> np.ndarray:
    return influence_N - influence_N.mean()
