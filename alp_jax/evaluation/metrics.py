"""Classification metrics under per-clip weights, so that a bootstrap is one call."""

import numpy as np


def accuracy(correct_N: np.ndarray, weight_RN: np.ndarray) -> np.ndarray:
    """Weighted share of correct answers, for each of R weightings; values_R."""
    return weight_RN @ correct_N.astype(np.float64) / weight_RN.sum(1)


def balanced_accuracy(correct_N: np.ndarray, target_N: np.ndarray, weight_RN: np.ndarray) -> np.ndarray:
    """Mean over the classes present of the share of their clips that are right; values_R."""
    member_NC = (target_N[:, None] == np.unique(target_N)).astype(np.float64)
    count_RC = weight_RN @ member_NC
    right_RC = weight_RN @ (member_NC * correct_N[:, None])
    present_RC = count_RC > 0
    recall_RC = np.divide(right_RC, count_RC, out=np.zeros_like(right_RC), where=present_RC)
    return recall_RC.sum(1) / present_RC.sum(1)


def average_precision(score_N: np.ndarray, target_N: np.ndarray, weight_RN: np.ndarray) -> np.ndarray:
    """Average precision of one class as scikit-learn defines it (ties share a threshold); NaN without positives."""
    order = np.argsort(-score_N, kind="stable")
    sorted_N = score_N[order]
    block_end_N = np.searchsorted(-sorted_N, -sorted_N, side="right") - 1
    weight_RN = weight_RN[:, order].astype(np.float64)
    hit_RN = weight_RN * target_N[order]
    total_RN = np.cumsum(weight_RN, 1)[:, block_end_N]
    precision_RN = np.divide(
        np.cumsum(hit_RN, 1)[:, block_end_N], total_RN, out=np.zeros_like(hit_RN), where=total_RN > 0
    )
    positives_R = hit_RN.sum(1)
    return np.divide(
        (hit_RN * precision_RN).sum(1), positives_R, out=np.full(len(positives_R), np.nan), where=positives_R > 0
    )


def mean_average_precision(score_NC: np.ndarray, target_NC: np.ndarray, weight_RN: np.ndarray) -> np.ndarray:
    """Mean of the classes' average precision, classes without a positive left out; values_R."""
    per_class = [average_precision(score_NC[:, c], target_NC[:, c], weight_RN) for c in range(score_NC.shape[1])]
    return np.nanmean(per_class, axis=0)
