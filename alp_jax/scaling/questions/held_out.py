"""Whether the laws predict: each is fitted again without the top rung, and its prediction compared with that rung."""

import dataclasses
from typing import Any

import numpy as np

from alp_jax.scaling.laws.curves import Curve
from alp_jax.scaling.laws.fit import fit_law, shortage
from alp_jax.scaling.questions.common import hull

LAW = "power"
_REPLICAS = 60


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The top rung of one curve as the rungs below it predict it. Values are errors of the metric.

    Attributes:
      pairs: the rung. measured: geometric mean over its runs.
      predicted, low, high: the law's prediction, and its 95% interval for a mean over that many runs.
      runs: of the top rung.
    """

    group: dict[str, str]
    pairs: float
    measured: float
    predicted: float
    low: float
    high: float
    runs: int

    @property
    def inside(self) -> bool:
        """Whether the measured mean lies in the predicted interval."""
        return self.low <= self.measured <= self.high


def hold_out(curves: list[Curve]) -> list[HeldOut]:
    """The held-out top rung of every curve that has enough rungs below it; inputs are pairs.

    The interval combines the bootstrap of the law with the noise that remains in the mean of the held-out runs.
    """
    held_out = []
    for k, curve in enumerate(curves):
        top = curve.x[:, 0] == curve.x[:, 0].max()
        if shortage(LAW, curve.x[~top]):
            continue
        below = None if curve.seeds is None else [s for s, held in zip(curve.seeds, top, strict=True) if not held]
        fit = fit_law(LAW, curve.x[~top], curve.y[~top], replicas=_REPLICAS, seed=[0, k], seeds=below)
        rung, runs = curve.x[top][:1, 0], int(top.sum())
        noise = np.hypot(fit.residual_sd or 0.0, fit.seed_sd or 0.0) / np.sqrt(runs)
        rng: Any = np.random.default_rng([0, k])
        kinds = [kind[:, 0] * np.exp(noise * rng.standard_normal(len(kind))) for kind in fit.replicas(rung)]
        predicted = float(fit.predict(rung)[0])
        measured = float(np.exp(np.log(curve.y[top]).mean()))
        held_out.append(HeldOut(curve.group, float(rung[0]), measured, predicted, *hull(kinds, predicted), runs))
    return held_out
