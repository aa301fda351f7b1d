"""The linear probe in minibatches that are read from disk, for sets that the exact fit has no memory for.

Adam in the directions in which the features vary independently, each scaled by its variance and the penalty: the same
objective and minimum as without, but reached in a few epochs, as all directions are then about equally steep. Penalties
are fitted side by side as far as the memory budget allows; classes are split over devices where there are many.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from alp_jax.config.schema import MeshConfig
from alp_jax.evaluation.budget import MemoryBudget
from alp_jax.evaluation.fit_state import Saves
from alp_jax.evaluation.frozen_fit import FitSchedule, Kept, fit, permuted
from alp_jax.evaluation.probes.data import (
    ROWS_AT_ONCE,
    ProbeData,
    class_offset,
    feature_moments,
    in_chunks,
    losses,
    one_hot,
    pad_to,
    padded_classes,
    score,
)
from alp_jax.parallel.mesh import make_mesh

LEAST_BATCH, MOST_BATCH = 256, 2048  # rows in a minibatch: of a small set and at most
LEAST = 400  # steps, for small sets
RATE, WARMUP = 0.03, 0.05  # of Adam; the warm-up is a share of the steps
SOFTEST = 1e-4  # variance that the flattest direction is given at least, in units of the mean variance
CLASSES_PER_DEVICE = 256  # fewer are not worth splitting
SEED = 0


@dataclasses.dataclass(frozen=True)
class Linear:
    """A linear classifier with its standardisation: float32 mean_D, scale_D, w_DC and b_C."""

    mean_D: np.ndarray
    scale_D: np.ndarray
    w_DC: np.ndarray
    b_C: np.ndarray

    def logits(self, x_ND: np.ndarray) -> np.ndarray:
        """float32[N,C]."""
        return ((x_ND - self.mean_D) * self.scale_D) @ self.w_DC + self.b_C


def schedule(rows: int, epochs: float) -> FitSchedule:
    """The minibatches of a fit of ``rows``, with as many looks at the held-out rows as there are epochs."""
    return FitSchedule.of(rows, epochs, LEAST, LEAST_BATCH, MOST_BATCH, looks=max(1, math.ceil(epochs)))


def fit_bytes(width: int, num_classes: int, batch: int, devices: int = 1) -> tuple[int, int]:
    """Bytes on a device: those that all fits of a step share, and those of each; the latter shrink with devices.

    A fit holds about ten tables of weights (Adam's moments, the gradient and their successors) and six of logits; that
    the compiled program takes no more is tested.
    """
    classes = padded_classes(num_classes)
    shared = 4 * (3 * batch * width + 2 * width**2 + batch * classes)
    return shared, 4 * (10 * (width + 1) * classes + 6 * batch * classes) // devices


def host_bytes(rows: int, width: int, batch: int) -> int:
    """Bytes of the host: a chunk of features and what is made of it, minibatches to come, and the order of the rows."""
    return 4 * (4 * min(rows, ROWS_AT_ONCE) * width + 4 * batch * width) + 3 * 8 * rows


def class_devices(num_classes: int) -> int:
    """Over how many devices of this process the classes are split."""
    classes = padded_classes(num_classes)
    most = max(1, min(len(jax.local_devices()), classes // CLASSES_PER_DEVICE))
    return max(n for n in range(1, most + 1) if classes % n == 0)


def fit_streamed(
    data: ProbeData, penalties: tuple[float, ...], *, epochs: float, budget: MemoryBudget, saves: Saves
) -> tuple[Linear, dict]:
    """Fits all ``penalties`` without the held-out rows, which select one of them and an epoch; of equals the earliest.

    The selected penalty is then fitted for as many steps to all training rows.

    Returns:
      The classifier, and what was selected.

    Raises:
      UserError: the memory budget of a device is too small for a single fit.
    """
    own, held = np.flatnonzero(~data.held), np.flatnonzero(data.held)
    # Of the rows that are fitted, alone: standardised by the held-out rows too, penalties would be selected by rows
    # that had shaped them.
    frame = _Frame.of(data, own)
    plan = schedule(len(own), epochs)
    split = class_devices(data.num_classes)
    side = budget.side_by_side(len(penalties), *fit_bytes(len(frame.mean_D), data.num_classes, plan.batch, split))

    def train(fits: "_Fits", among: np.ndarray, steps: int, **options) -> Kept:
        # From the same seed every time: penalties then differ in nothing but the penalty, and a fit that goes on draws
        # what it had drawn.
        batches = permuted(np.random.default_rng(SEED), among, plan.batch)
        saved = saves.of("streamed", len(among), fits.penalty_G, steps, dataclasses.astuple(plan)).state()
        return fit(fits.update, *fits.start(among), batches, steps=steps, saved=saved, label="linear probe", **options)

    best, chosen = Kept(math.inf, 0, None), penalties[0]
    for first in range(0, len(penalties), side):
        fits = _Fits(data, frame, penalties[first : first + side], plan, split)
        kept = train(
            fits, own, plan.steps, look=lambda params, fits=fits: -max(fits.scores(params, held)), looks=plan.looks
        )
        if kept.loss < best.loss:
            best, chosen = kept, fits.penalty_G[int(np.argmax(fits.scores(kept.params, held)))]
    fits = _Fits(data, frame, (chosen,), plan, split)
    # The schedule of the selection, ended at the step that was selected: a shorter one would have another learning rate
    # there.
    final = train(fits, np.arange(len(data.held)), best.step)
    selected = {"penalty": chosen, "selection_score": -best.loss, "steps": best.step, "batch": plan.batch}
    return fits.linear(final.params), selected


@dataclasses.dataclass(frozen=True)
class _Frame:
    """Standardisation, and the directions (columns of ``basis_DD``) in which features then vary independently."""

    mean_D: np.ndarray
    scale_D: np.ndarray
    basis_DD: np.ndarray
    variance_D: np.ndarray

    @classmethod
    def of(cls, data: ProbeData, rows: np.ndarray) -> "_Frame":
        mean_D, scale_D = feature_moments(data.train, rows)
        covariance_DD = np.zeros((len(mean_D), len(mean_D)))
        for at in in_chunks(rows):
            x_ND = (data.train(at) - mean_D) * scale_D
            covariance_DD += x_ND.T @ x_ND
        # In float64: beside the large variances, float32 would lose the small ones, by which directions are scaled the
        # most.
        variance_D, basis_DD = np.linalg.eigh(covariance_DD / len(rows))
        return cls(mean_D, scale_D, basis_DD.astype(np.float32), np.maximum(variance_D, 0.0))

    def scale(self, penalty_G: tuple[float, ...], num_classes: int) -> np.ndarray:
        """float32[G,D,1]: the weight that one unit of a parameter stands for, per penalty and direction.

        The curvature of the mean loss along a direction is about its variance / C, to which the penalty adds.
        """
        flattest = SOFTEST * max(float(self.variance_D.mean()), 1e-12)
        curvature_GD = self.variance_D + flattest + num_classes * np.array(penalty_G)[:, None]
        return (1 / np.sqrt(curvature_GD)).astype(np.float32)[:, :, None]


class _Fits:
    """Several penalties, fitted side by side: ``w`` [G,D,C] in the scaled directions of a frame, and ``b`` [G,C]."""

    def __init__(self, data: ProbeData, frame: _Frame, penalty_G: tuple[float, ...], plan: FitSchedule, split: int):
        self.data, self.frame, self.penalty_G, self.plan = data, frame, penalty_G, plan
        self._mesh = make_mesh(MeshConfig(data=1, tensor=split), jax.local_devices()[:split]) if split > 1 else None
        self._offset_C = class_offset(data.num_classes)
        self._given = {
            "mean_D": frame.mean_D,
            "scale_D": frame.scale_D,
            "basis_DD": frame.basis_DD,
            "scale_GD1": frame.scale(penalty_G, data.num_classes),
            "penalty_G": np.array(penalty_G, np.float32),
            "offset_C": self._place(self._offset_C),
        }

    def _place(self, array):
        """On the devices that the last dimension, classes, is split over."""
        if self._mesh is None:
            return jnp.asarray(array)
        axes = (None,) * (array.ndim - 1) + ("tensor",) if array.ndim else ()
        return jax.device_put(array, NamedSharding(self._mesh, PartitionSpec(*axes)))

    def start(self, among: np.ndarray) -> tuple[dict, optax.OptState]:
        """Weights of zero, and biases that answer with the share of each class; with the optimizer's state."""
        fits, classes, target = len(self.penalty_G), self.data.num_classes, self.data.train_y[among]
        bias_C = np.zeros(len(self._offset_C))
        if self.data.multi:
            share_C = (target.sum(0) + 0.5) / (len(among) + 1)
            bias_C[:classes] = np.log(share_C / (1 - share_C))
        else:
            bias_C[:classes] = np.log((np.bincount(target, minlength=classes) + 1) / (len(among) + classes))
        params = {
            "w": np.zeros((fits, len(self.frame.mean_D), len(bias_C)), np.float32),
            "b": np.tile(bias_C.astype(np.float32), (fits, 1)),
        }
        params = jax.tree.map(self._place, params)
        return params, jax.tree.map(self._place, adam(self.plan).init(params))

    def update(self, params: dict, state: optax.OptState, at: np.ndarray) -> tuple[dict, optax.OptState]:
        """One step of all fits on the training rows ``at``."""
        target = self.data.target(at, len(self._offset_C))
        return step(params, state, self.data.train(at), target, self._given, multi=self.data.multi, plan=self.plan)

    def scores(self, params: dict, held: np.ndarray) -> list[float]:
        """The score of every fit on the training rows ``held``."""
        parts = []
        for at in in_chunks(held, self.plan.batch):
            x_BD = pad_to(self.data.train(at), self.plan.batch)
            answer_GB = np.asarray(answer(params, x_BD, self._given, multi=self.data.multi))[:, : len(at)]
            parts.append(answer_GB[..., : self.data.num_classes] if self.data.multi else answer_GB)
        return [score(answer, self.data.train_y[held]) for answer in np.concatenate(parts, axis=1)]

    def linear(self, params: dict) -> Linear:
        """The classifier of the first fit."""
        w_DC, b_C = (np.asarray(params[name][0])[..., : self.data.num_classes] for name in ("w", "b"))
        scaled_DC = self._given["scale_GD1"][0] * w_DC
        return Linear(self.frame.mean_D, self.frame.scale_D, self.frame.basis_DD @ scaled_DC, b_C)


def adam(plan: FitSchedule) -> optax.GradientTransformation:
    """Adam with warm-up and cosine decay to zero."""
    warm = max(1, round(WARMUP * plan.steps))
    return optax.adam(optax.warmup_cosine_decay_schedule(0.0, RATE, warm, max(plan.steps, warm + 1)), b2=0.99)


@functools.partial(jax.jit, static_argnames=("multi", "plan"))
def step(params, state, x_BD, target, given, *, multi: bool, plan: FitSchedule):
    """One step of all fits on one minibatch: (params, state) as before it."""

    def objective(params):
        w_GDC = given["scale_GD1"] * params["w"]
        loss_GB = losses(_logits(w_GDC, params["b"], x_BD, given), one_hot(target, params["b"].shape[1]), multi)
        # the fits do not see each other, so the gradient of the sum is that of each
        # The penalty is on the weights themselves, not on the scaled parameters: the minimum is that of the exact fit.
        return jnp.sum(loss_GB.mean(1) + 0.5 * given["penalty_G"] * jnp.sum(w_GDC**2, (1, 2)))

    updates, state = adam(plan).update(jax.grad(objective)(params), state, params)
    return optax.apply_updates(params, updates), state


@functools.partial(jax.jit, static_argnames="multi")
def answer(params, x_BD, given, *, multi: bool):
    """int32[G,B], the likeliest class for every fit and row; if ``multi`` logits_GBC."""
    logits_GBC = _logits(given["scale_GD1"] * params["w"], params["b"], x_BD, given)
    return logits_GBC if multi else logits_GBC.argmax(-1)


def _logits(w_GDC, b_GC, x_BD, given):
    rotated_BD = ((x_BD - given["mean_D"]) * given["scale_D"]) @ given["basis_DD"]
    return jnp.einsum("bd,gdc->gbc", rotated_BD, w_GDC) + b_GC[:, None] + given["offset_C"]
