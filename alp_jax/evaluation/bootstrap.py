"""Intervals by resampling what is independent: groups of test clips where there are enough of them, else clips."""

from collections.abc import Callable, Sequence

import numpy as np

MIN_GROUPS = 10  # fewer cannot be resampled meaningfully
RESAMPLES = 500
LEVEL = 0.95


def weights(groups: Sequence[str], resamples: int = RESAMPLES, seed: int = 0) -> tuple[np.ndarray, str]:
    """How often each of N clips is drawn in each resample.

    Returns:
      weight_RN float32, whose row 0 is the sample itself (all ones), and the unit that was drawn with replacement:
      ``groups`` when there are at least MIN_GROUPS, else ``clips``.
    """
    _, member_N = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    units = int(member_N.max()) + 1
    unit = "groups" if units >= MIN_GROUPS else "clips"
    if unit == "clips":
        member_N, units = np.arange(len(member_N)), len(member_N)
    drawn = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=resamples)
    return np.concatenate([np.ones((1, len(member_N))), drawn[:, member_N]]).astype(np.float32), unit


def over_seeds(metrics: Sequence[Callable[[np.ndarray], np.ndarray]], weight_RN: np.ndarray) -> np.ndarray:
    """values_R: means of a metric over seeds, in row 0 of all and in every other of as many drawn with replacement."""
    values_SR = np.stack([np.asarray(metric(weight_RN)) for metric in metrics])
    seeds, rows = values_SR.shape
    drawn_SR = np.random.default_rng(0).integers(seeds, size=(seeds, rows))
    drawn_SR[:, 0] = np.arange(seeds)
    return np.take_along_axis(values_SR, drawn_SR, axis=0).mean(0)


def estimate(metric: Callable[[np.ndarray], np.ndarray], weight_RN: np.ndarray) -> tuple[float, list[float]]:
    """The metric on the sample and its percentile interval at LEVEL; ``metric`` maps weight_RN to values_R."""
    values_R = np.asarray(metric(weight_RN))
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(values_R[1:], [tail, 100 - tail])
    return float(values_R[0]), [float(low), float(high)]
