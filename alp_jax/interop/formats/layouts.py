"""How one parameter is laid out here and in a PyTorch state dict; every layout is a permutation, so bits survive."""

import dataclasses
from collections.abc import Callable

import numpy as np

Transform = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Layout:
    """A pair of inverse rearrangements; ``rank`` is the number of axes on the PyTorch side, None for any."""

    to_torch: Transform
    from_torch: Transform
    rank: int | None = None


LAYOUTS = {
    "same": Layout(lambda a: a, lambda a: a),
    # (in, out) <-> (out, in)
    "linear": Layout(lambda a: a.T, lambda a: a.T, 2),
    # (height, width, in, out) <-> (out, in, height, width)
    "conv2d": Layout(lambda a: a.transpose(3, 2, 0, 1), lambda a: a.transpose(2, 3, 1, 0), 4),
    # (in, out) <-> (out, in, 1, 1)
    "pointwise": Layout(lambda a: a.T[:, :, None, None], lambda a: a[:, :, 0, 0].T, 4),
    # (taps, channels) <-> (channels, 1, taps)
    "depthwise": Layout(lambda a: a.T[:, None, :], lambda a: a[:, 0, :].T, 3),
    # (height, width, channels) <-> (channels, 1, height, width)
    "depthwise2d": Layout(lambda a: a.transpose(2, 0, 1)[:, None], lambda a: a[:, 0].transpose(1, 2, 0), 4),
}
