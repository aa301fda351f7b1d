"""Values that change over training: piecewise linear in the batch count, constant beyond the ends."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
from flax import nnx


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The reference's ScheduledFloat: straight lines through ``points`` of (batch count, value).

    Raises:
      ValueError: no point, or batch counts that do not increase.
    """

    points: tuple[tuple[float, float], ...]

    def __post_init__(self):
        counts = [count for count, _ in self.points]
        if not counts or any(later <= earlier for earlier, later in itertools.pairwise(counts)):
            raise ValueError(f"a schedule needs points with increasing batch counts, not {self.points}")

    def __call__(self, batch_count: jax.Array | float) -> jax.Array | float:
        """The value at ``batch_count``: a sum of clipped ramps; a plain number where it never changes."""
        value = self.points[0][1]
        for (begin, low), (end, high) in itertools.pairwise(self.points):
            value += (high - low) * jnp.clip((batch_count - begin) / (end - begin), 0.0, 1.0)
        return value

    @property
    def never(self) -> bool:
        """True where the value is zero throughout, so that what it governs can be left out of the program."""
        return all(value == 0.0 for _, value in self.points)


def constant(value: float) -> Schedule:
    """The same value throughout."""
    return Schedule(((0.0, value),))


NEVER = constant(0.0)


def line(start: float, end: float, batches: float) -> Schedule:
    """From ``start`` at batch 0 to ``end`` at ``batches``."""
    return Schedule(((0.0, start), (float(batches), end)))


def schedules_of(module: nnx.Module) -> dict[str, Schedule]:
    """Every schedule in ``module`` by its path, ``encoders/0/layers/1/bypass/skip_rate``."""
    found = {}
    for path, part in nnx.iter_modules(module):
        for name, value in vars(part).items():
            if isinstance(value, Schedule):
                found["/".join(map(str, (*path, name)))] = value
    return found
