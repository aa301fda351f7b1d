"""Intervals by resampling independent units: groups of test clips, or the clips themselves if there are few groups.

A metric is resampled through its ``Estimate``: the value, and what one more copy of each clip would add to it. For a
mean that is exact. For average precision it is better than scoring each resample, where a clip that is drawn twice
supports itself: two copies of a positive rank together, and negatives that were not drawn leave gaps. Such scores lie
above the value, just as the value lies above the truth; those computed here lie around the value.

The amount by which a finite test set raises average precision is estimated too (``Estimate.bias``). An interval covers
both the mean over test sets of this size and the value on an infinite one.

The draws depend on the groups and the seed alone. So every metric, seed and encoder on the same test clips sees the
same resamples, and the difference of two rows of ``Resamples.linear`` is a paired comparison.

Memory: BLOCK counts at a time, and for each estimate one number per clip and one per resample; never resamples x clips
x classes.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from scipy import stats

from alp_jax.core.metrics import METRICS

MIN_GROUPS = 4  # with fewer, Student's t is too wide to be of use
RESAMPLES = 1000
LEVEL = 0.95
# Counts of units that are in memory at a time. It also says which resamples share a random generator (``counts``), so
# another value changes the draws, and with them the intervals, of test sets too large for one block.
BLOCK = 1 << 22


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A metric on N test clips.

    Attributes:
      value: the metric itself.
      influence_N: float64, what one more copy of each clip adds to it, to first order; sums to 0.
      bias: how far the value is expected to lie above that of an infinite test set.
      counted_N: bool, clips that enter the metric; None means all.
      binary: whether the metric is a share of clips, so that its value alone determines how much clips vary.
    """

    value: float
    influence_N: np.ndarray
    bias: float = 0.0
    counted_N: np.ndarray | None = None
    binary: bool = False


class Resamples:
    """How often each unit of a test set is drawn in each of ``count`` resamples.

    Args:
      groups: the group of each of N clips or queries.
      clips: the clip of each query; None if each of the N is a clip of its own.

    Attributes:
      unit: ``groups`` if there are at least MIN_GROUPS of them, otherwise ``clips``.
      member_N: int, the unit that each clip or query belongs to.
      units: U, the number of units.
    """

    def __init__(
        self, groups: Sequence[str], clips: np.ndarray | None = None, *, count: int = RESAMPLES, seed: int = 0
    ):
        _, member_N = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
        self.unit = "groups" if member_N.max() + 1 >= MIN_GROUPS else "clips"
        if self.unit == "clips":
            member_N = np.arange(len(member_N)) if clips is None else np.unique(clips, return_inverse=True)[1]
        self.member_N, self.units = member_N, int(member_N.max()) + 1
        self.count, self._seed = count, seed

    def counts(self) -> Iterator[np.ndarray]:
        """How often each unit is drawn, float64[r,U], block by block; the same on every call."""
        rows = max(1, BLOCK // self.units)
        for block, first in enumerate(range(0, self.count, rows)):
            size = min(rows, self.count - first)
            drawn_rU = np.random.default_rng([self._seed, block]).integers(self.units, size=(size, self.units))
            # each row gets a range of numbers of its own, so that one bincount counts all rows
            drawn_rU += self.units * np.arange(size)[:, None]
            yield np.bincount(drawn_rU.ravel(), minlength=size * self.units).reshape(size, -1).astype(np.float64)

    def linear(self, influence_N: np.ndarray) -> np.ndarray:
        """What each resample adds to a metric: float64[...,R] for influences [...,N]."""
        by_unit_KU = self.by_unit(influence_N).reshape(-1, self.units)
        added_RK = np.concatenate([counts_rU @ by_unit_KU.T for counts_rU in self.counts()])
        return added_RK.T.reshape(*np.shape(influence_N)[:-1], self.count)

    def by_unit(self, influence_N: np.ndarray) -> np.ndarray:
        """Sums over the clips of each unit: float64[...,U] for [...,N]."""
        influence_KN = np.asarray(influence_N, np.float64).reshape(-1, len(self.member_N))
        sums_KU = np.stack([np.bincount(self.member_N, row_N, self.units) for row_N in influence_KN])
        return sums_KU.reshape(*np.shape(influence_N)[:-1], self.units)

    def effective_units(self, counted_N: np.ndarray | None = None) -> float:
        """Kish's effective number of units: few if a few of them hold most of the clips that count."""
        inside_N = np.ones(len(self.member_N)) if counted_N is None else counted_N
        size_U = np.bincount(self.member_N, inside_N, self.units)
        return float(size_U.sum() ** 2 / (size_U**2).sum()) if size_U.any() else 1.0

    def freedom(self, estimate: Estimate | None = None) -> float:
        """Degrees of freedom of a metric's spread over units; without an estimate, of a metric without influences.

        They are one less than the effective units that count. For a metric that is not a share of clips, the kurtosis
        of its influences lowers them further: far, if a few positives among many clips decide.
        """
        if estimate is None:
            return max(self.effective_units() - 1, 1.0)
        most = max(self.effective_units(estimate.counted_N) - 1, 1.0)
        square_U = self.by_unit(estimate.influence_N) ** 2
        if estimate.binary or not square_U.any():
            return most
        counted_N = estimate.counted_N
        units = self.units if counted_N is None else len(np.unique(self.member_N[counted_N]))
        # To first order, a variance estimated from n draws has 2 n / (kurtosis - 1) degrees of freedom. The kurtosis is
        # 1, and the quotient unbounded, where all influences are equal in size: hence the clip.
        kurtosis = units * (square_U**2).sum() / square_U.sum() ** 2
        return float(np.clip(2 * units / max(kurtosis - 1, 1e-9), 1, most))

    def apply(self, metric: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """``metric`` of every resample; it maps how often each clip counts, float64[r,N], to float64[r,...]."""
        return np.concatenate([metric(counts_rU[:, self.member_N]) for counts_rU in self.counts()])


def over_seeds(value_S: np.ndarray, added_SR: np.ndarray) -> np.ndarray:
    """value_R: in every resample of the clips, the mean over S seeds that are drawn with replacement.

    Such a mean varies less than it should, by (S - 1) / S of the variance, so the seeds' deviations are widened first.
    """
    seeds, resamples = added_SR.shape
    widened_S = value_S.mean() + (value_S - value_S.mean()) * np.sqrt(seeds / max(seeds - 1, 1))
    # always the same generator: metrics and encoders with as many seeds draw the same ones in the same resamples
    drawn_SR = np.random.default_rng(0).integers(seeds, size=(seeds, resamples))
    return np.take_along_axis(widened_S[:, None] + added_SR, drawn_SR, axis=0).mean(0)


def _freedom_over_seeds(value_S: np.ndarray, value_R: np.ndarray, freedom: float) -> float:
    """Satterthwaite's degrees of freedom of a mean over seeds, as two or three seeds say little about their spread.

    Args:
      value_R: what ``over_seeds`` returned. freedom: degrees of freedom of the spread over clips.
    """
    if np.ptp(value_S) < 1e-9:  # one seed, or all alike
        return freedom
    seeds = len(value_S)
    of_seeds = value_S.var(ddof=1) / seeds
    # ``value_R`` holds both spreads; what the seeds do not explain is the clips', and sampling may make that negative
    of_clips = max(value_R.var(ddof=1) - of_seeds, 0.0)
    return min(freedom, (of_seeds + of_clips) ** 2 / (of_seeds**2 / (seeds - 1) + of_clips**2 / freedom))


def interval(
    value: np.ndarray | float,
    value_R: np.ndarray,
    freedom: np.ndarray | float,
    bounds: tuple[float, float],
    bias: np.ndarray | float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the interval at LEVEL, [...] each; they enclose ``value`` and lie within ``bounds``.

    If both bounds are finite it is Wilson's interval with Student's t, for the number of independent clips that would
    vary as much as the resamples do; so a value at a bound has an interval of some width too. The result spans two
    intervals: around the value, and around the value less its bias.

    Args:
      value: [...]. value_R: [...,R], of the resamples. bias: [...].
      freedom: [...], degrees of freedom of the spread; see ``Resamples.freedom``.
      bounds: the metric's range, which may be infinite.
    """
    value, bias, freedom = (np.asarray(x, np.float64) for x in (value, bias, freedom))
    units, t = freedom + 1, stats.t.ppf((1 + LEVEL) / 2, freedom)
    # resamples of n units show (n - 1) / n of the variance; without the factor intervals of few units are too narrow
    spread = np.std(value_R, axis=-1, ddof=1) * np.sqrt(units / freedom)
    low, high = bounds
    if not np.isfinite([low, high]).all():
        ends = [value - bias - t * spread, value - t * spread, value - bias + t * spread, value + t * spread]
    else:
        width = high - low
        ends = []
        for centre in (value, np.clip(value - bias, low, high)):
            ends += [low + width * end for end in _wilson((centre - low) / width, spread / width, units, t)]
    return np.clip(np.min([value, *ends], 0), low, high), np.clip(np.max([value, *ends], 0), low, high)


def _wilson(share: np.ndarray, spread: np.ndarray, units: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's ends for a share; one that never varied counts as known exactly, unless it is 0 or 1."""
    variance = share * (1 - share)
    known = spread < 1e-9
    ends = variance < 1e-12
    # The number of clips whose binomial variance is the spread's. At 0 or 1 both vanish and say nothing of it, so the
    # units stand in; an infinite size makes the interval a point.
    size = np.where(ends, units, np.divide(variance, spread**2, out=np.full_like(variance, np.inf), where=~known))
    extra = t**2 / size
    middle = (share + extra / 2) / (1 + extra)
    half = np.sqrt(extra * (variance + extra / 4)) / (1 + extra)
    return middle - half, middle + half


def quantiles(value: float, value_R: np.ndarray, freedom: float, bounds: tuple[float, float]) -> list[float]:
    """The central LEVEL of the resamples, enclosing the value: for medians, where single clips have no influence.

    Deviations from the value are widened to those of Student's t, as resamples of few units vary too little.
    """
    tail = (1 - LEVEL) / 2
    widened = stats.t.isf(tail, freedom) / stats.norm.isf(tail) * np.sqrt((freedom + 1) / freedom)
    ends = value + widened * (np.percentile(value_R, [100 * tail, 100 * (1 - tail)]) - value)
    low, high = np.clip(ends, *bounds)
    return [float(min(low, value)), float(max(high, value))]


def entries(
    by_name: Mapping[str, Sequence[Estimate]], drawn: Resamples, chance: Mapping[str, float | None]
) -> dict[str, dict]:
    """``value``, ``interval`` and ``chance`` of every metric by name, from one estimate per seed (mostly just one)."""
    flat = [estimate for estimates in by_name.values() for estimate in estimates]
    # all metrics and seeds in one pass over the draws; the rows are taken below in the order of ``flat``
    added_KR = iter(drawn.linear(np.stack([estimate.influence_N for estimate in flat])))
    result = {}
    for name, estimates in by_name.items():
        value_S = np.array([estimate.value for estimate in estimates])
        value_R = over_seeds(value_S, np.stack([next(added_KR) for _ in estimates]))
        value, bias = float(value_S.mean()), float(np.mean([estimate.bias for estimate in estimates]))
        freedom = _freedom_over_seeds(value_S, value_R, min(drawn.freedom(estimate) for estimate in estimates))
        ends = interval(value, value_R, freedom, METRICS[name].bounds, bias)
        result[name] = {"value": value, "interval": [float(end) for end in ends], "chance": chance.get(name)}
    return result


def entry(name: str, metric: Callable[[np.ndarray], np.ndarray], drawn: Resamples, chance: float | None = None) -> dict:
    """As ``entries``, for one metric without influences (BLEU, for instance): ``metric`` scores every resample."""
    value = metric(np.ones((1, len(drawn.member_N))))[0]
    return scored(name, value, drawn.apply(metric), drawn, chance)


def scored(name: str, value: float, value_R: np.ndarray, drawn: Resamples, chance: float | None = None) -> dict:
    """As ``entry``, from scores of the resamples; how far their mean exceeds the value serves as its bias."""
    ends = interval(value, value_R, drawn.freedom(), METRICS[name].bounds, value_R.mean() - value)
    return {"value": float(value), "interval": [float(end) for end in ends], "chance": chance}
