"""Floating-point operations of a traced program: matrix products and convolutions, counted before compilation."""

import math
from typing import Any

import numpy as np


def flops(jaxpr: Any) -> float:
    """Operations of all devices together; a multiplication with its addition counts as two, recomputation counts again.

    Elementwise work, norms, softmax and Fourier transforms are left out. A loop of unknown length counts once; of a
    condition's branches the one with the most operations counts.

    Args:
      jaxpr: closed or open, as of ``jax.stages.Traced.jaxpr``.
    """
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    return sum(_equation(equation) for equation in jaxpr.eqns)


def _equation(equation: Any) -> float:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel, out = equation.invars[1].aval.shape, equation.outvars[0].aval.shape
        inputs = kernel[parameters["dimension_numbers"].rhs_spec[1]]
        # inputs: of one group, as the kernel's shape has it, so grouped convolutions are not counted in full
        return 2.0 * math.prod(out) * inputs * _taps(equation)
    if name == "cond":
        return max(flops(branch) for branch in parameters["branches"])
    times = 1.0
    if name == "scan":
        times = parameters["length"]
    elif name == "shard_map":  # its body is what one device does
        times = math.prod(parameters["mesh"].shape[axis] for axis in parameters["newly_manual_axes"])
    return times * sum(flops(inner) for inner in _inner(parameters))


def _taps(equation: Any) -> float:
    """Products per output element and input channel, on average: taps that fall on a value, not on padding or a gap."""
    parameters = equation.params
    numbers = parameters["dimension_numbers"]
    left, right, out = (variable.aval.shape for variable in (*equation.invars, *equation.outvars))
    taps = 1.0
    for i, (axis, kernel_axis, out_axis) in enumerate(
        zip(numbers.lhs_spec[2:], numbers.rhs_spec[2:], numbers.out_spec[2:], strict=True)
    ):
        stride, (low, _) = parameters["window_strides"][i], parameters["padding"][i]
        gap, reach = parameters["lhs_dilation"][i], parameters["rhs_dilation"][i]
        at = np.arange(out[out_axis])[:, None] * stride + np.arange(right[kernel_axis]) * reach - low
        taps *= np.sum((at >= 0) & (at <= (left[axis] - 1) * gap) & (at % gap == 0)) / out[out_axis]
    return float(taps)


def _inner(parameters: dict) -> list:
    """The inner programs of an equation."""
    values = [
        value for entry in parameters.values() for value in (entry if isinstance(entry, list | tuple) else (entry,))
    ]
    return [value for value in values if hasattr(getattr(value, "jaxpr", value), "eqns")]
