"""The data of a probe, read as it is needed, and what its fits share: padded sizes, losses, answers, scores."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.evaluation.stats.metrics import mean_average_precision

ROWS_MULTIPLE, CLASSES_MULTIPLE = 512, 32  # sizes are padded up to these, so that tasks share compiled programs
MOST_DOUBLED = 16  # times that a multiple is doubled at most: padding stays below a half, and small where it costs
ROWS_AT_ONCE = 1 << 16  # rows of pooled features that are in memory at a time
_ABSENT = -1e9  # logit of a padding class

Reader = Callable[[np.ndarray], Any]  # positions of clips -> their features


@dataclasses.dataclass(frozen=True)
class ProbeData:
    """The data of a probe.

    Attributes:
      train, test: read clips by position: float32[n,D], or for the attention probe (frames_NTD float32, len_N).
      train_y: int32[N] classes, or float32[N,C] with 1 for each label of a multi-label task.
      held: bool[N], training rows that only select settings.
      num_test: number of test clips.
      num_classes: C.
    """

    train: Reader
    train_y: np.ndarray
    held: np.ndarray
    test: Reader
    num_test: int
    num_classes: int

    @property
    def multi(self) -> bool:
        """Whether a clip can have several labels."""
        return self.train_y.ndim == 2

    def target(self, at: np.ndarray, classes: int) -> np.ndarray:
        """``train_y`` of some rows, for ``one_hot``: int32[n], or float32[n,classes] padded with zeros."""
        return pad_to(self.train_y[at], len(at), classes) if self.multi else self.train_y[at]


def padded(size: int, multiple: int) -> int:
    """``size`` rounded up to ``multiple`` times a power of two; beyond MOST_DOUBLED times, to that many multiples."""
    step = multiple
    while step < size and step < MOST_DOUBLED * multiple:
        step *= 2
    return step * -(-size // step)


def padded_classes(num_classes: int) -> int:
    """C with padding classes; a multiple of 64 where it is large, which devices can share."""
    small = padded(num_classes, CLASSES_MULTIPLE)
    return small if small <= 256 else 64 * -(-num_classes // 64)


def pad_to(array: np.ndarray, *sizes: int) -> np.ndarray:
    """``array`` with its leading axes padded with zeros to ``sizes``."""
    widths = [(0, size - have) for size, have in zip(sizes, array.shape, strict=False)]
    return np.pad(array, widths + [(0, 0)] * (array.ndim - len(widths)))


def class_offset(num_classes: int) -> np.ndarray:
    """What to add to logits so that padding classes are never chosen; float32[padded C]."""
    total = padded_classes(num_classes)
    return np.where(np.arange(total) < num_classes, 0.0, _ABSENT).astype(np.float32)


def one_hot(target: jax.Array, classes: int) -> jax.Array:
    """float32[n,classes] of int32[n]; what has a column per class already stays as it is."""
    return target if target.ndim == 2 else jax.nn.one_hot(target, classes)


def losses(logits_NC: jax.Array, onehot_NC: jax.Array, multi) -> jax.Array:
    """loss_N: softmax cross-entropy or, if ``multi``, sigmoid cross-entropy summed over classes."""
    # where instead of *: nothing of a padding class, whose log-probability is near -1e9, enters the sum or its gradient
    one = -jnp.sum(jnp.where(onehot_NC > 0, onehot_NC * jax.nn.log_softmax(logits_NC), 0.0), axis=-1)
    many = jnp.sum(jax.nn.softplus(logits_NC) - jnp.where(onehot_NC > 0, onehot_NC * logits_NC, 0.0), axis=-1)
    return jnp.where(multi, many, one)


def in_chunks(positions: np.ndarray, size: int = ROWS_AT_ONCE) -> Iterator[np.ndarray]:
    """``positions``, ``size`` at a time."""
    return (positions[start : start + size] for start in range(0, len(positions), size))


def score(answers: np.ndarray, target: np.ndarray) -> float:
    """The score that selects settings: accuracy of int[N] classes, or mean average precision of float32[N,C] logits."""
    if target.ndim == 2:
        value = mean_average_precision(answers, target).value
        return -1.0 if np.isnan(value) else value
    return float((answers == target).mean())


def answers(logits_NC: np.ndarray) -> np.ndarray:
    """int32[...,N], the likeliest classes of a single-label task: all that is kept of its logits."""
    if not np.isfinite(logits_NC).all():
        raise ValueError("the probe's scores are not finite")
    return logits_NC.argmax(-1).astype(np.int32)


def feature_moments(read: Reader, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean_D, scale_D) float32 that bring features to mean 0 and deviation 1 over ``rows``; 0 for a constant one."""
    count, mean_D, square_D, largest = 0, 0.0, 0.0, 1.0
    for some in in_chunks(rows):
        x_ND = read(some)
        total, mean, variance = count + len(x_ND), x_ND.mean(0).astype(np.float64), x_ND.var(0).astype(np.float64)
        # Chan's formula; of a single chunk exactly its own mean and variance
        shift = mean - mean_D
        square_D = square_D + variance * len(x_ND) + shift**2 * count * len(x_ND) / total
        mean_D = mean if not count else mean_D + shift * len(x_ND) / total
        count, largest = total, max(largest, float(np.abs(x_ND).max()))
    std_D = np.sqrt(square_D / count).astype(np.float32)
    # A constant feature has a deviation of rounding errors, relative to the largest value; dividing by it would make
    # noise as large as any other feature.
    scale_D = np.divide(1.0, std_D, out=np.zeros_like(std_D), where=std_D > 1e-6 * largest)
    return mean_D.astype(np.float32), scale_D
