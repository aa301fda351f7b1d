"""One line per compared tensor."""

import dataclasses
import math
from typing import Any

import numpy as np

FORWARD = 1e-4  # largest |difference| of a forward pass in float32
GRADIENT = 2e-3  # largest relative L2 difference of a gradient in float32
# For single modules, whose sums are short: three times what float32 needs, so that one changed constant shows.
MODULE_FORWARD, MODULE_GRADIENT = 1e-5, 3e-5
NOISE = 1e-4  # share of the largest absolute gradient below which a gradient is rounding noise


@dataclasses.dataclass(frozen=True)
class Line:
    """A tensor of a case with its largest |difference| from the reference; infinite where shapes or NaNs disagree."""

    case: str
    tensor: str
    difference: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.difference <= self.tolerance

    def __str__(self) -> str:
        verdict = "ok" if self.ok else "FAIL"
        return f"{self.case:<28} {self.tensor:<44} {self.difference:10.3e} {self.tolerance:10.3e}  {verdict}"


def compare(
    case: str, tensor: str, actual: Any, expected: Any, tolerance: float = FORWARD, *, relative: bool = False
) -> Line:
    """Compares arrays of the same shape.

    Args:
      tolerance: largest allowed |difference|; 0 for integers that must be equal.
      relative: scale the tolerance by the root mean square of the expected values where that exceeds 1.
    """
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    if relative and expected.size:
        tolerance = tolerance * max(1.0, float(np.sqrt(np.mean(np.square(expected)))))
    return Line(case, tensor, largest_difference(actual, expected), tolerance)


def largest_difference(actual: np.ndarray, expected: np.ndarray) -> float:
    """max |actual - expected|; infinite for other shapes or when anything is not a number."""
    if actual.shape != expected.shape:
        return math.inf
    difference = float(np.max(np.abs(actual - expected), initial=0.0))
    return math.inf if math.isnan(difference) else difference


def compare_gradient(
    case: str, tensor: str, actual: Any, expected: Any, largest: float, tolerance: float = GRADIENT
) -> Line:
    """Relative L2 difference of a gradient; its tolerance leaves room for float32 sums in a different order.

    Args:
      largest: the largest absolute gradient of the case. A tensor whose root mean square is below 1e-4 of it is
        rounding noise, which cancels differently everywhere: its line is max |difference| in units of ``largest``.
    """
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    if actual.shape != expected.shape:
        return Line(case, tensor, math.inf, tolerance)
    if np.sqrt(np.mean(np.square(expected))) < NOISE * largest:
        return Line(case, f"{tensor} (tiny)", largest_difference(actual, expected) / largest, NOISE)
    difference = float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))
    return Line(case, tensor, math.inf if math.isnan(difference) else difference, tolerance)
