"""The saturating power law ``error(N) = E + A * N**-alpha``: robust fit, bootstrap intervals, honest warnings.

Loss: sum of Huber(delta = 1e-3) over residuals of log error (Hoffmann et al. 2022, appendix D.2, arXiv 2203.15556), and
1e-3 times their squares, which makes the minimum unique where the absolute part is flat.
Minimiser: Levenberg-Marquardt on the reweighted least squares of the Huber loss, from a grid of starts; all starts and
replicas of a bootstrap are one batch of float64 numpy arrays. Shapes: K problems, n runs, 3 parameters (log E, log A0,
alpha) with A0 the reducible error at the geometric mean of N.
"""

import dataclasses
from typing import Any

import numpy as np

DELTA = 1e-3
TIE = 1e-3  # weight of the squared residual: two seeds per rung leave the Huber loss flat between them
LEVEL = 0.95
MAX_ALPHA = 5.0
FLOOR_DEPTH = 12.0  # log E is kept within this of the smallest log error; at the bound E counts as zero
_ALPHAS = (0.02, 0.1, 0.25, 0.5, 1.0, 2.0)
_SHARES = (1e-4, 0.3, 0.6, 0.8, 0.9, 0.97)  # of the smallest error, as starts of E


@dataclasses.dataclass(frozen=True)
class Fit:
    """One fitted curve; every interval is (low, high) at 95%, None where it cannot be computed.

    Attributes:
      E, A, alpha: asymptote, scale (in units of x) and exponent.
      case: intervals by resampling runs within their rung (parameter -> interval).
      parametric: intervals by Gaussian noise on log error; the variance is drawn from its scaled inverse chi-square.
      interval: the envelope of both, which is what should be quoted.
      residual_sd: standard deviation of the log residuals, n - 3 degrees of freedom.
      curve: ``x``, ``y``, ``low``, ``high`` along the fitted range.
    """

    E: float
    A: float
    alpha: float
    case: dict[str, tuple[float, float] | None]
    parametric: dict[str, tuple[float, float] | None]
    interval: dict[str, tuple[float, float] | None]
    residual_sd: float | None
    runs: int
    rungs: int
    curve: dict[str, list[float]]
    warnings: list[str]

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def power_law(x: np.ndarray, E: float, A: float, alpha: float) -> np.ndarray:
    """``E + A * x**-alpha``."""
    return E + A * np.asarray(x, float) ** -alpha


def fit_power_law(x: np.ndarray, y: np.ndarray, *, replicas: int = 200, seed: int = 0) -> Fit:
    """Fits runs ``x[n]`` (pairs, samples, ...; repeated values are rungs) and errors ``y[n]``, all finite and positive.

    Raises:
      ValueError: fewer than three distinct x, or values that are not finite and positive.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    rungs = np.unique(x)
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (x > 0).all() and (y > 0).all()):
        raise ValueError("x and y must be finite and positive")
    if len(rungs) < 3:
        raise ValueError(f"{len(rungs)} distinct x: three parameters need at least three")
    rng = np.random.default_rng(seed)
    center = np.log(rungs).mean()
    u, v = np.log(x) - center, np.log(y)
    best = _fit_batch(u[None], v[None], None, keep=36)[0]
    predicted, _ = _predict(best[None], u[None])
    residual = v - predicted[0]
    case = _fit_batch(*_resample(u, v, replicas, rng), best, keep=3)
    parametric, sd = None, None
    if len(x) > 3:
        freedom = len(x) - 3
        sd = float(np.sqrt((residual**2).sum() / freedom))
        scale = sd * np.sqrt(freedom / rng.chisquare(freedom, size=(replicas, 1)))
        noisy = predicted + scale * rng.standard_normal((replicas, len(x)))
        parametric = _fit_batch(np.broadcast_to(u, noisy.shape), noisy, best, keep=3)
    estimate = _natural(best[None], center)
    case_intervals = _intervals(_natural(case, center))
    parametric_intervals = dict.fromkeys(estimate)
    if parametric is not None:
        parametric_intervals = _intervals(_natural(parametric, center))
    both = {
        name: _hull(case_intervals[name], parametric_intervals[name], float(estimate[name][0])) for name in estimate
    }
    return Fit(
        **{name: float(value[0]) for name, value in estimate.items()},
        case=case_intervals,
        parametric=parametric_intervals,
        interval=both,
        residual_sd=sd,
        runs=len(x),
        rungs=len(rungs),
        curve=_curve(rungs, best, [case] if parametric is None else [case, parametric], center),
        warnings=_warnings(best, v, both, len(rungs), len(x)),
    )


def _predict(params_K3: np.ndarray, u_Kn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log error [K, n] and the asymptote's share of it [K, n]."""
    floor, slope = params_K3[:, :1], params_K3[:, 1:2] - params_K3[:, 2:] * u_Kn
    log_y = np.logaddexp(floor, slope)
    return log_y, np.exp(floor - log_y)


def _loss(residual: np.ndarray) -> np.ndarray:
    size = np.abs(residual)
    huber = np.where(size <= DELTA, 0.5 * residual**2, DELTA * (size - 0.5 * DELTA))
    return (huber + 0.5 * TIE * residual**2).sum(-1)


def _starts(u_Kn: np.ndarray, v_Kn: np.ndarray) -> np.ndarray:
    """Starts [K, S, 3]: a grid of exponent and share of the asymptote, the scale from the median."""
    lowest = v_Kn.min(1)[:, None]
    grid = np.array([(share, alpha) for share in _SHARES for alpha in _ALPHAS])
    floor = lowest + np.log(grid[:, 0])
    reducible = np.log(np.maximum(np.exp(v_Kn)[:, None] - np.exp(floor)[..., None], 1e-12))
    scale = np.median(reducible + grid[:, 1][None, :, None] * u_Kn[:, None], axis=-1)
    return np.stack([floor, scale, np.broadcast_to(grid[:, 1], floor.shape)], axis=-1)


def _fit_batch(u_Kn: np.ndarray, v_Kn: np.ndarray, best: np.ndarray | None, keep: int) -> np.ndarray:
    """The best parameters [K, 3] of K problems, each from its ``keep`` most promising starts and from ``best``."""
    starts = _starts(u_Kn, v_Kn)
    K, S, _ = starts.shape
    wide_u, wide_v = np.repeat(u_Kn, S, 0), np.repeat(v_Kn, S, 0)
    losses = _loss(_predict(starts.reshape(-1, 3), wide_u)[0] - wide_v).reshape(K, S)
    order = np.argsort(losses, axis=1, kind="stable")[:, :keep]
    chosen = np.take_along_axis(starts, order[..., None], axis=1)
    if best is not None:
        chosen = np.concatenate([np.broadcast_to(best, (K, 1, 3)), chosen], axis=1)
    M = chosen.shape[1]
    params, losses = _minimise(chosen.reshape(-1, 3), np.repeat(u_Kn, M, 0), np.repeat(v_Kn, M, 0), exact=False)
    winner = losses.reshape(K, M).argmin(1)
    params = params.reshape(K, M, 3)[np.arange(K), winner]
    return params if best is not None else _minimise(params, u_Kn, v_Kn, exact=True)[0]


def _minimise(params: np.ndarray, u: np.ndarray, v: np.ndarray, exact: bool) -> tuple[np.ndarray, np.ndarray]:
    """Levenberg-Marquardt for every problem of the batch at once; a step is taken only where it lowers the loss.

    ``exact``: until the loss stands still to ten digits; replicas of a bootstrap need no more than seven.
    """
    steps, tolerance = (3000, 1e-10) if exact else (150, 1e-7)
    lowest = np.stack([v.min(1) - FLOOR_DEPTH, v.min(1) - FLOOR_DEPTH, np.zeros(len(v))], 1)
    highest = np.stack([v.max(1), v.max(1) + FLOOR_DEPTH, np.full(len(v), MAX_ALPHA)], 1)
    params = np.clip(params, lowest, highest)
    residual = _predict(params, u)[0] - v
    losses = _loss(residual)
    damping = np.full(len(v), 1e-2)
    active = np.arange(len(v))
    for _ in range(steps):
        p, ua, va = params[active], u[active], v[active]
        log_y, share = _predict(p, ua)
        residual = log_y - va
        jacobian = np.stack([share, 1 - share, -(1 - share) * ua], -1)
        weight = np.minimum(1.0, DELTA / np.maximum(np.abs(residual), 1e-300)) + TIE
        weighted = jacobian * weight[..., None]
        hessian = weighted.transpose(0, 2, 1) @ jacobian
        gradient = (weighted * residual[..., None]).sum(1)
        at_bound = ((p <= lowest[active]) & (gradient > 0)) | ((p >= highest[active]) & (gradient < 0))
        gradient = np.where(at_bound, 0.0, gradient)
        hessian = np.where(at_bound[:, :, None] | at_bound[:, None, :], 0.0, hessian)
        diagonal = np.einsum("kii->ki", hessian)
        scale = diagonal * damping[active, None] + 1e-12 * diagonal.max(1, keepdims=True) + 1e-300
        system = hessian + np.eye(3) * (scale + at_bound)[..., None]
        step = np.linalg.solve(system, gradient[..., None])[..., 0]
        trial = np.clip(p - step, lowest[active], highest[active])
        trial_loss = _loss(_predict(trial, ua)[0] - va)
        gain = losses[active] - trial_loss
        better = gain > 0
        params[active[better]], losses[active[better]] = trial[better], trial_loss[better]
        damping[active] = np.where(better, damping[active] * 0.2, damping[active] * 4.0).clip(1e-12, 1e12)
        small = better & (gain <= tolerance * losses[active]) | (losses[active] < 1e-16)
        stuck = ~better & (damping[active] >= 1e8)
        active = active[~(small | stuck)]
        if not len(active):
            break
    return params, losses


def _resample(u: np.ndarray, v: np.ndarray, replicas: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Runs drawn with replacement within each rung, so that no rung is lost."""
    picked = np.empty((replicas, len(u)), int)
    for rung in np.unique(u):
        members = np.flatnonzero(u == rung)
        picked[:, members] = rng.choice(members, size=(replicas, len(members)))
    return u[picked], v[picked]


def _natural(params: np.ndarray, center: float) -> dict[str, np.ndarray]:
    alpha = params[:, 2]
    return {"E": np.exp(params[:, 0]), "A": np.exp(params[:, 1] + alpha * center), "alpha": alpha}


def _intervals(values: dict[str, np.ndarray]) -> dict[str, tuple[float, float] | None]:
    tail = 50 * (1 - LEVEL)
    return {name: tuple(np.percentile(v, [tail, 100 - tail]).tolist()) for name, v in values.items()}


def _hull(case: tuple[float, float], parametric: tuple[float, float] | None, estimate: float) -> tuple[float, float]:
    both = [case, parametric or case]
    return min(estimate, *(low for low, _ in both)), max(estimate, *(high for _, high in both))


def _curve(rungs: np.ndarray, best: np.ndarray, samples: list[np.ndarray], center: float) -> dict[str, list[float]]:
    x = np.geomspace(rungs[0], rungs[-1], 25)
    u = np.log(x)[None] - center
    y = np.exp(_predict(best[None], u)[0][0])
    tail = 50 * (1 - LEVEL)
    bands = [np.percentile(np.exp(_predict(s, np.repeat(u, len(s), 0))[0]), [tail, 100 - tail], 0) for s in samples]
    low = np.minimum(y, np.min([band[0] for band in bands], 0))
    high = np.maximum(y, np.max([band[1] for band in bands], 0))
    return {"x": x.tolist(), "y": y.tolist(), "low": low.tolist(), "high": high.tolist()}


def _warnings(best: np.ndarray, v: np.ndarray, interval: dict[str, Any], rungs: int, runs: int) -> list[str]:
    found = []
    if rungs < 4:
        found.append(f"{rungs} rungs for three parameters: exponent and asymptote are confounded; do not extrapolate")
    if runs <= 3:
        found.append("no more runs than parameters: the fit passes through the points and its noise is unknown")
    if best[2] <= 1e-6:
        found.append("the error does not fall with data: exponent at its lower bound 0")
    elif best[2] >= MAX_ALPHA * 0.999:
        found.append(f"exponent at its upper bound {MAX_ALPHA}: the curve is flat after the first rung")
    if best[0] <= v.min() - FLOOR_DEPTH + 1:
        found.append("the asymptote cannot be told from zero")
    low, high = interval["alpha"]
    if high - low > 1.0 or (low <= 1e-6 < best[2]):
        found.append("these runs do not determine the exponent: its interval is wide or reaches 0")
    return found
