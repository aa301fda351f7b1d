"""The forms that can be fitted to an error; each is a sum of positive terms whose logarithms are simple.

Internal parameters are those the minimiser moves: logarithms of scales, with inputs centred on their geometric mean, so
that they are of order one and little correlated. ``natural`` turns them into the ones of the formula. Shapes: K
problems, n runs, d inputs, T terms, P parameters; the first parameter is always log E, E the irreducible error.
"""

import itertools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

MAX_EXPONENT = 5.0
FLOOR_DEPTH = 12.0  # log E is kept within this of the smallest log error; at the bound E counts as zero
_SHARES = (1e-4, 0.3, 0.6, 0.8, 0.9, 0.97)  # of the smallest error: where searches for E start
_EXPONENTS = (0.02, 0.1, 0.25, 0.5, 1.0, 2.0)

Terms = tuple[np.ndarray, np.ndarray]  # log of each term [K,n,T], its derivatives [K,n,T,P]


class Law(NamedTuple):
    """One form.

    Attributes:
      formula: the law as text, in the names of ``params``.
      inputs: what the columns of x mean, in order.
      params: natural parameters.
      terms: (internal parameters [K,P], centred inputs [K,n,d]) -> logarithms of the terms and their derivatives.
      starts: (centred inputs [K,n,d], log errors [K,n]) -> internal parameters to start from [K,S,P].
      bounds: (centred inputs, log errors) -> lowest and highest internal parameters [K,P].
      natural: (internal parameters [K,P], centres [d]) -> natural parameter -> values [K].
      encode: x [n,d] -> inputs [n,d] before they are centred; mostly the logarithm.
      exponents: positions of the internal parameters that are exponents (alpha, beta).
    """

    formula: str
    inputs: tuple[str, ...]
    params: tuple[str, ...]
    terms: Callable[[np.ndarray, np.ndarray], Terms]
    starts: Callable[[np.ndarray, np.ndarray], np.ndarray]
    bounds: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    natural: Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]
    encode: Callable[[np.ndarray], np.ndarray]
    exponents: tuple[int, ...]


def _floor_and_reducible(v_Kn: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log E [K,S] for each share of the smallest error, and the log of what every error has above E [K,S,n]."""
    floor = v_Kn.min(1)[:, None] + np.log(shares)
    return floor, np.log(np.maximum(np.exp(v_Kn)[:, None] - np.exp(floor)[..., None], 1e-12))


def _box(v_Kn: np.ndarray, *rest: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Bounds: log E below the largest error, then ``rest``."""
    low, high = v_Kn.min(1) - FLOOR_DEPTH, v_Kn.max(1)
    pairs = [(low, high), *rest]
    return tuple(np.stack([np.broadcast_to(pair[k], low.shape) for pair in pairs], 1) for k in (0, 1))


def _scale(v_Kn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return v_Kn.min(1) - FLOOR_DEPTH, v_Kn.max(1) + FLOOR_DEPTH


_EXPONENT = (np.zeros(()), np.full((), MAX_EXPONENT))


def _fill(shape: tuple[int, ...], *columns: np.ndarray | float) -> np.ndarray:
    return np.stack([np.broadcast_to(column, shape) for column in columns], -1)


def _grid(*axes: Iterable[float]) -> np.ndarray:
    return np.array(list(itertools.product(*axes))).T


def _terms(log_E: np.ndarray, *rest: tuple[np.ndarray, tuple[np.ndarray | float, ...]]) -> Terms:
    """Log E, which depends on the first parameter alone, then ``rest``: log of a term and its derivatives."""
    shape, first = rest[0][0].shape, (1.0, *[0.0] * (len(rest[0][1]) - 1))
    logs = _fill(shape, log_E, *(log for log, _ in rest))
    return logs, np.stack([_fill(shape, *slopes) for slopes in (first, *(slopes for _, slopes in rest))], 2)


def _power_natural(p: np.ndarray, c: np.ndarray) -> dict[str, np.ndarray]:
    # log A - alpha * log x = p1 - p2 * (log x - c): A carries the centre, so it is only meaningful together with alpha
    return {"E": np.exp(p[:, 0]), "A": np.exp(p[:, 1] + p[:, 2] * c[0]), "alpha": p[:, 2]}


# -- E + A * x^-alpha


def _power_terms(p_KP: np.ndarray, u_Knd: np.ndarray) -> Terms:
    u_Kn = u_Knd[..., 0]
    return _terms(p_KP[:, :1], (p_KP[:, 1:2] - p_KP[:, 2:3] * u_Kn, (0.0, 1.0, -u_Kn)))


def _power_starts(u_Knd: np.ndarray, v_Kn: np.ndarray) -> np.ndarray:
    share, exponent = _grid(_SHARES, _EXPONENTS)
    floor, reducible = _floor_and_reducible(v_Kn, share)
    # with E and the exponent given, each run says what log A must be; the median is not moved by one odd run
    scale = np.median(reducible + exponent[None, :, None] * u_Knd[:, None, :, 0], axis=-1)
    return _fill(floor.shape, floor, scale, exponent)


POWER = Law(
    "E + A * x^-alpha",
    ("x",),
    ("E", "A", "alpha"),
    _power_terms,
    _power_starts,
    lambda u, v: _box(v, _scale(v), _EXPONENT),
    _power_natural,
    np.log,
    (2,),
)

# -- E + A * data^-alpha + B * model^-beta (Hoffmann et al. 2022, arXiv 2203.15556, equation 10)


def _joint_terms(p_KP: np.ndarray, u_Knd: np.ndarray) -> Terms:
    data, model = u_Knd[..., 0], u_Knd[..., 1]
    of_data = p_KP[:, 1:2] - p_KP[:, 2:3] * data, (0.0, 1.0, -data, 0.0, 0.0)
    return _terms(p_KP[:, :1], of_data, (p_KP[:, 3:4] - p_KP[:, 4:5] * model, (0.0, 0.0, 0.0, 1.0, -model)))


def _joint_starts(u_Knd: np.ndarray, v_Kn: np.ndarray) -> np.ndarray:
    # part: the share of the reducible error that the data term explains
    share, alpha, beta, part = _grid((0.1, 0.6, 0.9), (0.1, 0.3, 0.8), (0.1, 0.3, 0.8), (0.2, 0.5, 0.8))
    floor, reducible = _floor_and_reducible(v_Kn, share)
    at_data = np.median(reducible + alpha[None, :, None] * u_Knd[:, None, :, 0], axis=-1) + np.log(part)
    at_model = np.median(reducible + beta[None, :, None] * u_Knd[:, None, :, 1], axis=-1) + np.log(1 - part)
    return _fill(floor.shape, floor, at_data, alpha, at_model, beta)


DATA_MODEL = Law(
    "E + A * data^-alpha + B * model^-beta",
    ("data", "model"),
    ("E", "A", "alpha", "B", "beta"),
    _joint_terms,
    _joint_starts,
    lambda u, v: _box(v, _scale(v), _EXPONENT, _scale(v), _EXPONENT),
    lambda p, c: _power_natural(p, c) | {"B": np.exp(p[:, 3] + p[:, 4] * c[1]), "beta": p[:, 4]},
    np.log,
    (2, 4),
)

# -- E + A * D^-alpha, D = unique * (1 + R * (1 - e^(-(epochs - 1) / R))) (Muennighoff et al. 2023, arXiv 2305.16264)


def _repeated_terms(p_KP: np.ndarray, u_Knd: np.ndarray) -> Terms:
    unique, repeats = u_Knd[..., 0], u_Knd[..., 1]
    decay_epochs = np.exp(p_KP[:, 3:4])  # R, in epochs: repeats enter as they are, neither in logarithms nor centred
    decay = np.exp(-repeats / decay_epochs)
    gained = decay_epochs * (1 - decay)
    worth = unique + np.log1p(gained)
    slope = (gained - repeats * decay) / (1 + gained)  # d log D / d log R
    alpha = p_KP[:, 2:3]
    return _terms(p_KP[:, :1], (p_KP[:, 1:2] - alpha * worth, (0.0, 1.0, -worth, -alpha * slope)))


def _repeated_starts(u_Knd: np.ndarray, v_Kn: np.ndarray) -> np.ndarray:
    share, exponent, log_decay_epochs = _grid((0.1, 0.6, 0.9), (0.1, 0.25, 0.5, 1.0), np.log((1.0, 5.0, 20.0)))
    floor, reducible = _floor_and_reducible(v_Kn, share)
    decay_epochs = np.exp(log_decay_epochs)[None, :, None]
    worth = u_Knd[:, None, :, 0] + np.log1p(decay_epochs * (1 - np.exp(-u_Knd[:, None, :, 1] / decay_epochs)))
    scale = np.median(reducible + exponent[None, :, None] * worth, axis=-1)
    return _fill(floor.shape, floor, scale, exponent, log_decay_epochs)


REPEATED = Law(
    "E + A * D^-alpha, D = unique * (1 + R * (1 - exp(-(epochs - 1) / R)))",
    ("unique", "epochs"),
    ("E", "A", "alpha", "R"),
    _repeated_terms,
    _repeated_starts,
    lambda u, v: _box(v, _scale(v), _EXPONENT, (np.log(0.01), np.log(1e4))),
    lambda p, c: _power_natural(p, c) | {"R": np.exp(p[:, 3])},
    lambda x_nd: np.stack([np.log(x_nd[:, 0]), x_nd[:, 1] - 1], 1),
    (2,),
)

# -- E + (C - E) / (1 + (x / x0)^alpha): flat at chance, then falling, then flat at the floor, as accuracies do


def _saturating_terms(p_KP: np.ndarray, u_Knd: np.ndarray) -> Terms:
    u_Kn = u_Knd[..., 0]
    distance = u_Kn - p_KP[:, 3:4]
    z = p_KP[:, 2:3] * distance
    share = 1 / (1 + np.exp(-np.clip(z, -500, 500)))  # unclipped, exp would overflow and warn above 709
    slopes = (0.0, 1.0, -share * distance, share * p_KP[:, 2:3])
    return _terms(p_KP[:, :1], (p_KP[:, 1:2] - np.logaddexp(0.0, z), slopes))


def _saturating_starts(u_Knd: np.ndarray, v_Kn: np.ndarray) -> np.ndarray:
    share, exponent, position = _grid((0.3, 0.8, 0.95), (0.25, 0.5, 1.0, 2.0), (-0.3, 0.0, 0.5, 1.0))
    floor, _ = _floor_and_reducible(v_Kn, share)
    u_Kn = u_Knd[..., 0]
    middle = u_Kn.min(1)[:, None] + position * np.ptp(u_Kn, axis=1)[:, None]
    top = np.log(np.exp(v_Kn.max(1))[:, None] * 1.05 - np.exp(floor))  # log(C - E), C a little above the largest error
    return _fill(floor.shape, floor, top, exponent, middle)


SATURATING = Law(
    "E + (C - E) / (1 + (x / x0)^alpha)",
    ("x",),
    ("E", "C", "alpha", "x0"),
    _saturating_terms,
    _saturating_starts,
    lambda u, v: _box(v, _scale(v), _EXPONENT, (u[..., 0].min(1) - 10.0, u[..., 0].max(1) + 10.0)),
    lambda p, c: {
        "E": np.exp(p[:, 0]),
        "C": np.exp(p[:, 0]) + np.exp(p[:, 1]),
        "alpha": p[:, 2],
        "x0": np.exp(p[:, 3] + c[0]),
    },
    np.log,
    (2,),
)

# -- E + A * x^-alpha * (1 + (x / x0)^(1/f))^(-delta f), one smooth break (Caballero et al. 2022, arXiv 2210.14891)
BREAK_WIDTH = 0.5  # f, fixed: half of the change of slope happens where |log(x / x0)| < 1.1 f


def _broken_terms(p_KP: np.ndarray, u_Knd: np.ndarray) -> Terms:
    u_Kn = u_Knd[..., 0]
    z = (u_Kn - p_KP[:, 4:5]) / BREAK_WIDTH
    bend = BREAK_WIDTH * np.logaddexp(0.0, z)  # f * log(1 + (x / x0)^(1/f)), without its overflow far above x0
    share = 1 / (1 + np.exp(-np.clip(z, -500, 500)))
    fall = p_KP[:, 1:2] - p_KP[:, 2:3] * u_Kn - p_KP[:, 3:4] * bend
    return _terms(p_KP[:, :1], (fall, (0.0, 1.0, -u_Kn, -bend, p_KP[:, 3:4] * share)))


def _broken_starts(u_Knd: np.ndarray, v_Kn: np.ndarray) -> np.ndarray:
    share, exponent, change, position = _grid((0.1, 0.6, 0.9), (0.05, 0.2, 0.5), (-0.2, 0.0, 0.3), (0.25, 0.5, 0.75))
    floor, reducible = _floor_and_reducible(v_Kn, share)
    u_Kn = u_Knd[..., 0]
    middle = u_Kn.min(1)[:, None] + position * np.ptp(u_Kn, axis=1)[:, None]
    bend = BREAK_WIDTH * np.logaddexp(0.0, (u_Kn[:, None] - middle[..., None]) / BREAK_WIDTH)
    flat = reducible + exponent[None, :, None] * u_Kn[:, None] + change[None, :, None] * bend
    return _fill(floor.shape, floor, np.median(flat, axis=-1), exponent, change, middle)


BROKEN = Law(
    f"E + A * x^-alpha * (1 + (x / x0)^{1 / BREAK_WIDTH:g})^(-delta * {BREAK_WIDTH:g})",
    ("x",),
    ("E", "A", "alpha", "delta", "x0"),
    _broken_terms,
    _broken_starts,
    lambda u, v: _box(v, _scale(v), _EXPONENT, (-MAX_EXPONENT, MAX_EXPONENT), (u[..., 0].min(1), u[..., 0].max(1))),
    lambda p, c: _power_natural(p, c) | {"delta": p[:, 3], "x0": np.exp(p[:, 4] + c[0])},
    np.log,
    (2,),
)

LAWS: dict[str, Law] = {
    "power": POWER,
    "data_model": DATA_MODEL,
    "repeated": REPEATED,
    "saturating": SATURATING,
    "broken": BROKEN,
}
