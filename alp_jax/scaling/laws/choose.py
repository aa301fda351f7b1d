"""Which form to trust: every law is fitted without the top rung and asked to predict it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from alp_jax.scaling.laws.fit import columns, fit_law, shortage
from alp_jax.scaling.laws.forms import LAWS

_REPLICAS = 60
STAY = "no further change"  # the baseline that predicts the mean of the highest rung below


@dataclasses.dataclass(frozen=True)
class Choice:
    """What held-out runs say about the laws.

    Attributes:
      law: the one picked; None where no law could be fitted without the top rung.
      errors: law -> root mean square over the held-out runs of log(predicted / measured), and that of ``STAY``.
      refused: law -> why it could not be fitted to the lower rungs.
      held_out: runs of the top rung. rungs: distinct inputs that the laws were fitted to.
      slack: law -> how far its error may be above the best and it still be picked for having fewer parameters.
      warnings: what makes this choice uncertain.
    """

    law: str | None
    errors: dict[str, float]
    refused: dict[str, str]
    held_out: int
    rungs: int
    slack: dict[str, float]
    warnings: list[str]


def choose_law(x: Any, y: Any, laws: Sequence[str] | None = None, seeds: Sequence[Any] | None = None) -> Choice:
    """Fits ``laws`` (by default all that take as many inputs) below the largest first input and predicts the rest.

    Of the laws whose error is at most ``slack`` above the smallest, the one with the fewest parameters is picked (the
    one-standard-error rule). Slack is the standard error of the difference between prediction and held-out mean: the
    bootstrap's spread of the prediction, combined with the smallest noise that any law leaves in the lower rungs.
    Inputs, errors and seeds are those of ``fit_law``.

    Raises:
      ValueError: values that are not finite and positive, or a law with another number of inputs.
    """
    x, y = columns(x), np.asarray(y, np.float64)
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (x > 0).all() and (y > 0).all()):
        raise ValueError("x and y must be finite and positive")
    laws = [name for name in laws or LAWS if laws or len(LAWS[name].inputs) == x.shape[1]]
    top = x[:, 0] == x[:, 0].max()
    below = None if seeds is None else [seed for seed, held in zip(seeds, top, strict=True) if not held]
    errors, refused, noise, spread = {}, {}, {}, {}
    for name in laws:
        reason = shortage(name, x[~top])
        if reason:
            refused[name] = f"without the top rung: {reason}"
            continue
        fit = fit_law(name, x[~top], y[~top], replicas=_REPLICAS, seeds=below)
        errors[name] = _error(fit.predict(x[top]), y[top])
        noise[name] = np.hypot(fit.residual_sd or 0.0, fit.seed_sd or 0.0)
        spread[name] = np.log(fit.replicas(x[top])[-1]).mean(1).std()  # the last kind: parametric where noise is known
    if not errors:
        return Choice(None, {}, refused, int(top.sum()), len(np.unique(x[~top], axis=0)), {}, [])
    best = min(errors, key=errors.get)
    least = min(
        filter(None, noise.values()), default=0.0
    )  # what a law leaves beyond it is misfit: counted as noise, it would widen that law's slack
    slack = {
        name: float(np.hypot(spread[name] * least / (noise[name] or 1.0), least / np.sqrt(top.sum())))
        for name in errors
    }
    near = [name for name in errors if errors[name] <= errors[best] + slack[name]]
    picked = min(near, key=lambda name: (len(LAWS[name].params), errors[name]))
    last = x[~top][:, 0] == x[~top][:, 0].max()
    stay = _error(np.exp(np.log(y[~top][last]).mean()), y[top])
    return Choice(
        law=picked,
        errors=errors | {STAY: stay},
        refused=refused,
        held_out=int(top.sum()),
        rungs=len(np.unique(x[~top], axis=0)),
        slack=slack,
        warnings=_warnings(errors[picked], stay, int(top.sum()), near),
    )


def _error(predicted: Any, measured: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.log(predicted / measured) ** 2)))


def _warnings(error: float, stay: float, held_out: int, near: list[str]) -> list[str]:
    warnings = []
    if error >= stay:
        warnings.append(
            "the picked law predicts the top rung no better than the rung below it does: do not extrapolate"
        )
    if held_out == 1:
        warnings.append("one held-out run: its own noise decides")
    if len(near) > 1:
        warnings.append(f"{' and '.join(near)} cannot be told apart; the one with the fewest parameters is picked")
    return warnings
