"""Does fitting find the truth? Errors come from known ("planted") laws plus noise, and fits must recover the laws."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from alp_jax.core.names import choose
from alp_jax.core.progress import Progress
from alp_jax.scaling.laws.fit import LEVEL, fit_law
from alp_jax.scaling.laws.forms import BREAK_WIDTH

MAX_ERROR = 0.05  # median over planted laws of |estimate / planted - 1|, of every exponent
MIN_COVERAGE = 0.90  # share of planted exponents inside their 95% interval


class Plant(NamedTuple):
    """How laws of one form are planted.

    Attributes:
      inputs: number of rungs -> inputs [n,d].
      draw: random generator -> natural parameters of a law.
      formula: (inputs [n,d], parameters) -> errors [n], written independently of the form that is fitted.
      exponents: parameters that are checked.
    """

    inputs: Callable[[int], np.ndarray]
    draw: Callable[[np.random.Generator], dict[str, float]]
    formula: Callable[[np.ndarray, dict[str, float]], np.ndarray]
    exponents: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How well one exponent was found, over all planted laws of one form, number of rungs and noise.

    Attributes:
      error: median relative error. coverage: share inside the 95% interval. spread: half-width of the 95% interval of
        ``coverage``, by the number of planted laws. width: median width of the interval over the planted exponent.
    """

    law: str
    rungs: int
    noise: float
    exponent: str
    planted: int
    error: float
    coverage: float
    spread: float
    width: float

    @property
    def met(self) -> bool:
        """Whether both targets are met."""
        return self.error < MAX_ERROR and self.coverage >= MIN_COVERAGE


def check_laws(
    laws: Sequence[str],
    rungs: Sequence[int],
    noises: Sequence[float],
    *,
    planted: int = 100,
    seeds: int = 3,
    replicas: int = 200,
    seed: int = 0,
) -> list[Outcome]:
    """How well each exponent is found, over ``planted`` laws for every form, number of rungs and noise.

    Args:
      noises: standard deviations of log error, independent for every run. seeds: runs per rung.
      replicas: of each kind of bootstrap. seed: of the planted laws and their noise.

    Raises:
      UserError: a law that cannot be planted.
    """
    outcomes = []
    with Progress("check laws", len(laws) * len(rungs) * len(noises) * planted, "fits") as progress:
        for law, count, noise in itertools.product(laws, rungs, noises):
            plant = PLANTS[choose(law, PLANTS, "law")]
            cell = _cell(law, plant, count, noise, planted, seeds, replicas, seed, progress.update)
            outcomes += cell
    return outcomes


def _cell(
    law: str,
    plant: Plant,
    rungs: int,
    noise: float,
    planted: int,
    seeds: int,
    replicas: int,
    seed: int,
    tick: Callable[[], None],
) -> list[Outcome]:
    """An outcome per exponent."""
    x = np.repeat(plant.inputs(rungs), seeds, axis=0)
    cases: dict[str, list[tuple[float, bool, float]]] = {name: [] for name in plant.exponents}
    for trial in range(planted):
        # Parameters are drawn before the noise, so that every number of rungs and noise meets the same laws.
        rng = np.random.default_rng([seed, trial])
        params = plant.draw(rng)
        y = plant.formula(x, params) * np.exp(noise * rng.standard_normal(len(x)))
        fit = fit_law(law, x, y, replicas=replicas, seed=trial)
        for name in plant.exponents:
            low, high = fit.interval[name]
            error, width = abs(fit.params[name] / params[name] - 1), (high - low) / params[name]
            cases[name].append((error, low <= params[name] <= high, width))
        tick()
    outcomes = []
    for name, of_exponent in cases.items():
        errors, covered, widths = zip(*of_exponent, strict=True)
        share = float(np.mean(covered))
        # without the lower limit, a share of exactly 0 or 1 would claim to be known without error
        spread = 1.96 * math.sqrt(max(share * (1 - share), 0.25 / planted) / planted)
        numbers = float(np.median(errors)), share, spread, float(np.median(widths))
        outcomes.append(Outcome(law, rungs, noise, name, planted, *numbers))
    return outcomes


def table_text(outcomes: Sequence[Outcome]) -> str:
    """Lines of a table; targets that are missed are marked."""
    lines = [
        f"{'law':<11}{'rungs':>5}{'noise':>8}  {'exponent':<9}{'median error':>13}{f'in {LEVEL:.0%}':>10}{'width':>9}"
    ]
    for o in outcomes:
        missed = "" if o.met else "  missed"
        lines.append(
            f"{o.law:<11}{o.rungs:>5}{o.noise:>8.3f}  {o.exponent:<9}{o.error:>12.1%} {o.coverage:>9.0%}{o.width:>9.2f}"
            f"{missed}"
        )
    return "\n".join(lines)


def _cross(*axes: np.ndarray) -> np.ndarray:
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], 1)


def _ladder(low: float, high: float) -> Callable[[int], np.ndarray]:
    return lambda rungs: np.geomspace(low, high, rungs)[:, None]


def _worth(x: np.ndarray, R: float) -> np.ndarray:
    return x[:, 0] * (1 + R * (1 - np.exp(-(x[:, 1] - 1) / R)))


def _uniform(**ranges: tuple[float, float]) -> Callable[[np.random.Generator], dict[str, float]]:
    return lambda rng: {name: float(rng.uniform(*limits)) for name, limits in ranges.items()}


PLANTS: dict[str, Plant] = {
    "power": Plant(
        _ladder(1e3, 1e7),
        _uniform(E=(0.05, 0.3), A=(3, 10), alpha=(0.25, 0.5)),
        lambda x, p: p["E"] + p["A"] * x[:, 0] ** -p["alpha"],
        ("alpha",),
    ),
    "data_model": Plant(
        lambda rungs: _cross(np.geomspace(1e4, 1e8, rungs), np.geomspace(1e6, 1e9, rungs)),
        _uniform(E=(0.05, 0.2), A=(3, 10), alpha=(0.25, 0.4), B=(30, 100), beta=(0.3, 0.4)),
        lambda x, p: p["E"] + p["A"] * x[:, 0] ** -p["alpha"] + p["B"] * x[:, 1] ** -p["beta"],
        ("alpha", "beta"),
    ),
    "repeated": Plant(
        lambda rungs: _cross(np.geomspace(1e3, 1e7, rungs), np.array([1.0, 4, 16])),
        _uniform(E=(0.05, 0.3), A=(3, 10), alpha=(0.25, 0.5), R=(3, 15)),
        lambda x, p: p["E"] + p["A"] * _worth(x, p["R"]) ** -p["alpha"],
        ("alpha",),
    ),
    "saturating": Plant(
        _ladder(1e2, 1e8),
        lambda rng: _uniform(E=(0.05, 0.3), C=(0.8, 0.95), alpha=(0.5, 1.0))(rng) | {"x0": 10 ** rng.uniform(4, 5.5)},
        lambda x, p: p["E"] + (p["C"] - p["E"]) / (1 + (x[:, 0] / p["x0"]) ** p["alpha"]),
        ("alpha",),
    ),
    "broken": Plant(
        _ladder(1e2, 1e9),
        lambda rng: (
            _uniform(E=(0.01, 0.05), A=(1, 3), alpha=(0.1, 0.2), delta=(0.2, 0.4))(rng)
            | {"x0": 10 ** rng.uniform(4.5, 6)}
        ),
        lambda x, p: (
            p["E"]
            + p["A"]
            * x[:, 0] ** -p["alpha"]
            * (1 + (x[:, 0] / p["x0"]) ** (1 / BREAK_WIDTH)) ** (-p["delta"] * BREAK_WIDTH)
        ),
        ("alpha",),
    ),
}
