"""Whether the laws foretell: each is fitted again without the top rung, and its prediction faces what was measured."""

import dataclasses
from typing import Any

import numpy as np

from alp_jax.scaling.laws.curves import Curve
from alp_jax.scaling.laws.fit import fit_law, shortage
from alp_jax.scaling.questions.common import hull

_REPLICAS = 60


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The top rung of one curve as the rungs below it predict it. All are errors of the metric.

    Attributes:
      pairs: the rung. measured: geometric mean over its runs.
      predicted, low, high: by the law, with the 95% interval for a mean over as many runs.
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

    @property
    def log_error(self) -> float:
        """log(predicted / measured): 0.1 is an error predicted about ten percent too large."""
        return float(np.log(self.predicted / self.measured))


def hold_out(curves: list[Curve], law: str = "power", seed: int = 0) -> list[HeldOut]:
    """The held-out top rung of every curve that has enough rungs below it; inputs are pairs.

    The interval adds to the bootstrap of the law what noise leaves in the mean of the held-out runs.
    """
    found = []
    for k, curve in enumerate(curves):
        top = curve.x[:, 0] == curve.x[:, 0].max()
        if shortage(law, curve.x[~top]):
            continue
        below = None if curve.seeds is None else [s for s, held in zip(curve.seeds, top, strict=True) if not held]
        fit = fit_law(law, curve.x[~top], curve.y[~top], replicas=_REPLICAS, seed=[seed, k], seeds=below)
        place, runs = curve.x[top][:1, 0], int(top.sum())
        noise = np.hypot(fit.residual_sd or 0.0, fit.seed_sd or 0.0) / np.sqrt(runs)
        rng: Any = np.random.default_rng([seed, k])
        kinds = [kind[:, 0] * np.exp(noise * rng.standard_normal(len(kind))) for kind in fit.replicas(place)]
        predicted = float(fit.predict(place)[0])
        measured = float(np.exp(np.log(curve.y[top]).mean()))
        found.append(HeldOut(curve.group, float(place[0]), measured, predicted, *hull(kinds, predicted), runs))
    return found
