"""A linear probe on single frames, fitted for several settings at once, as many as the memory budget allows.

Clips are read in batches, so that only the frames of one batch are in memory.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.ndimage import median_filter

from alp_jax.evaluation.budget import MemoryBudget
from alp_jax.evaluation.fit_state import Saves
from alp_jax.evaluation.frozen_fit import FitSchedule, Frames, Kept, fit, permuted
from alp_jax.evaluation.stats.metrics import mean_average_precision

SETTINGS = tuple((lr, decay) for lr in (3e-3, 1e-2, 3e-2) for decay in (1e-3, 1e-1))  # AdamW: rate, weight decay
STEPS, WARMUP = 400, 20  # the fewest steps, for small sets
LEAST_BATCH, MOST_BATCH = 32, 64  # clips in a batch: of a small set and at most
LOOKS = 4  # at the held-out frames
SCORE_BYTES, SMOOTHED, CLASS_BYTES = 4, 8, 160  # of a test frame: a score, scores that are smoothed at once, one class
SCORED_FRAMES = 20_000  # held-out frames, spread evenly, on which settings are compared


def moments(frames: Frames, clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and 1 / deviation of every feature over all frames of ``clips``, float32[D]; a constant feature gets 0."""
    count, total, square = 0, 0.0, 0.0
    for x_NTD, len_N in _batches(frames, clips):
        x_FD = x_NTD[np.arange(x_NTD.shape[1]) < len_N[:, None]].astype(np.float64)
        count, total, square = count + len(x_FD), total + x_FD.sum(0), square + (x_FD**2).sum(0)
    mean_D = total / count
    deviation_D = np.sqrt(np.maximum(square / count - mean_D**2, 0))
    scale_D = np.divide(1.0, deviation_D, out=np.zeros_like(deviation_D), where=deviation_D > 1e-6)
    return mean_D.astype(np.float32), scale_D.astype(np.float32)


def frame_schedule(clips: int, epochs: float) -> FitSchedule:
    """The batches of a fit of ``clips``."""
    return FitSchedule.of(clips, epochs, STEPS, LEAST_BATCH, MOST_BATCH, looks=LOOKS)


def fit_bytes(frames: int, width: int, classes: int, batch: int) -> tuple[int, int]:
    """Bytes on a device: those that all settings of a step share, and those of each."""
    rows = batch * frames
    return 4 * rows * (2 * width + 2 * classes), 4 * (10 * width * classes + 6 * rows * classes)


def host_bytes(tests: int, frames: int, width: int) -> tuple[int, int]:
    """Bytes of the host: those that fitting and scoring share, and the scores of one class for all test clips.

    The former are batches to come, the held-out frames, and what is made of the scores of one class (sorted, compared,
    summed up) and of those that are smoothed together.
    """
    shared = 4 * (4 * MOST_BATCH * frames * width + 2 * SCORED_FRAMES * width)
    return shared + tests * frames * (SCORE_BYTES * SMOOTHED + CLASS_BYTES), SCORE_BYTES * tests * frames


def class_blocks(classes: int, tests: int, frames: int, width: int, budget: MemoryBudget) -> list[slice]:
    """The classes whose scores are computed in one pass over the test clips: as many as fit into the host's memory."""
    shared, each = host_bytes(tests, frames, width)
    passes = -(-classes // max(1, min(classes, (budget.host - shared) // each)))
    edges = [classes * k // passes for k in range(passes + 1)]
    return [slice(*pair) for pair in itertools.pairwise(edges)]


def fit_frame_probe(
    frames: Frames,
    targets: Callable[[np.ndarray, int], np.ndarray],
    held: np.ndarray,
    classes: int,
    *,
    epochs: float,
    budget: MemoryBudget,
    saves: Saves,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, dict]:
    """Fits sigmoid classifiers of single frames; mean average precision over held-out frames selects setting and step.

    Args:
      frames: reads clips by position, 0 to ``len(held)``, always with the same number of frames.
      targets: (clips, T) -> float32[N,T,C], 1 where a class sounds.
      held: bool[clips], True for clips that only select.
      classes: C.
      epochs: passes over the clips that are not held.
      saves: keeps the states of fits, so that they can go on.

    Returns:
      weight_DC and bias_C, which apply to frames that are not standardised, and what was selected.

    Raises:
      UserError: the memory budget of a device is too small for a single setting.
    """
    fitted = np.flatnonzero(~held)
    mean_D, scale_D = moments(frames, fitted)
    plan = frame_schedule(len(fitted), epochs)
    start, update = trainer(plan.steps)
    held_FD, held_FC = _held_frames(frames, targets, np.flatnonzero(held))
    held_FD = (held_FD - mean_D) * scale_D

    def scores(params) -> list[float]:
        each = zip(np.asarray(params["w"]), np.asarray(params["b"]), strict=True)
        values = [mean_average_precision(held_FD @ w + b, held_FC).value for w, b in each]
        return [-1.0 if np.isnan(value) else value for value in values]  # NaN: no class sounds in any frame

    def train(settings: tuple[tuple[float, float], ...]) -> Kept:
        setting_G2 = jnp.asarray(settings, jnp.float32)
        params = {
            "w": jnp.zeros((len(settings), len(mean_D), classes)),
            "b": jnp.full((len(settings), classes), -3.0),  # most frames of most classes are silent
        }

        def step(params, state, clips: np.ndarray):
            x_NTD, len_N = frames(clips)
            x_NTD = (x_NTD - mean_D) * scale_D
            return update(params, state, setting_G2, x_NTD, len_N, targets(clips, x_NTD.shape[1]))

        return fit(
            step,
            params,
            start(params, setting_G2),
            permuted(np.random.default_rng(seed), fitted, plan.batch),
            steps=plan.steps,
            look=lambda params: -max(scores(params)),
            looks=plan.looks,
            label="frame probe",
            saved=saves.of("frame probe", settings, dataclasses.astuple(plan), seed).state(),
        )

    best, setting, chosen = Kept(math.inf, 0, None), SETTINGS[0], 0
    width = frames(fitted[:1])[0].shape[1]
    side = budget.side_by_side(len(SETTINGS), *fit_bytes(width, len(mean_D), classes, plan.batch))
    for some in (SETTINGS[first : first + side] for first in range(0, len(SETTINGS), side)):
        kept = train(some)
        if kept.loss < best.loss:
            best, chosen = kept, int(np.argmax(scores(kept.params)))
            setting = some[chosen]
    weight_DC = np.asarray(best.params["w"][chosen]) * scale_D[:, None]
    bias_C = np.asarray(best.params["b"][chosen]) - mean_D @ weight_DC
    lr, decay = setting
    selected = {"lr": lr, "weight_decay": decay, "selection_score": -best.loss, "step": best.step, "batch": plan.batch}
    return weight_DC, bias_C, selected


def frame_scores(
    frames: Frames, clips: np.ndarray, weight_DC: np.ndarray, bias_C: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(scores_CNT float32 between 0 and 1, len_N) of ``clips``, for the classes of ``weight_DC``."""
    scores_CNT, lengths = np.zeros((len(bias_C), 0, 0), np.float32), []
    for first, (x_NTD, len_N) in zip(range(0, len(clips), LEAST_BATCH), _batches(frames, clips), strict=True):
        if not first:
            scores_CNT = np.empty((len(bias_C), len(clips), x_NTD.shape[1]), np.float32)
        logits_NTC = x_NTD @ weight_DC + bias_C
        scores_CNT[:, first : first + LEAST_BATCH] = np.moveaxis(1 / (1 + np.exp(-np.clip(logits_NTC, -60, 60))), -1, 0)
        lengths.append(len_N)
    return scores_CNT, np.concatenate(lengths)


def smoothed(scores_CNT: np.ndarray, len_N: np.ndarray, width: int) -> np.ndarray:
    """Running medians over ``width`` (odd) frames, per clip and class; the first and last value repeat beyond it."""
    medians_CNT = np.zeros_like(scores_CNT)
    for n, length in enumerate(len_N):
        medians_CNT[:, n, :length] = median_filter(scores_CNT[:, n, :length], size=(1, width), mode="nearest")
    return medians_CNT


def _batches(frames: Frames, clips: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(clips), LEAST_BATCH):
        yield frames(clips[start : start + LEAST_BATCH])


@functools.cache
def trainer(steps: int) -> tuple[Callable, Callable]:
    """(start, update) for several settings at once; cached, so that all tasks and models of a process share them."""

    def optimizer(setting_2):
        rate = optax.warmup_cosine_decay_schedule(0.0, 1.0, WARMUP, steps)
        return optax.chain(
            optax.scale_by_adam(),
            optax.add_decayed_weights(setting_2[1]),
            optax.scale_by_schedule(rate),
            optax.scale(-setting_2[0]),
        )

    def loss(params, x_NTD, len_N, target_NTC):
        logit_NTC = x_NTD @ params["w"] + params["b"]
        inside_NT = jnp.arange(x_NTD.shape[1]) < len_N[:, None]
        loss_NT = optax.sigmoid_binary_cross_entropy(logit_NTC, target_NTC).sum(-1)
        return jnp.sum(loss_NT * inside_NT) / jnp.maximum(inside_NT.sum(), 1)

    def one(params, state, setting_2, x_NTD, len_N, target_NTC):
        grads = jax.grad(loss)(params, x_NTD, len_N, target_NTC)
        change, state = optimizer(setting_2).update(grads, state, params)
        return optax.apply_updates(params, change), state

    start = jax.jit(jax.vmap(lambda params, setting_2: optimizer(setting_2).init(params)))
    return start, jax.jit(jax.vmap(one, in_axes=(0, 0, 0, None, None, None)))


def _held_frames(frames: Frames, targets, clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(x_FD, target_FC) of at most about SCORED_FRAMES frames of ``clips``."""
    xs, ys = [], []
    for start in range(0, len(clips), LEAST_BATCH):
        some = clips[start : start + LEAST_BATCH]
        x_NTD, len_N = frames(some)
        inside_NT = np.arange(x_NTD.shape[1]) < len_N[:, None]
        stride = max(1, len(clips) * x_NTD.shape[1] // SCORED_FRAMES)
        # a copy: a view would keep every frame in memory
        xs.append(x_NTD[inside_NT][::stride].copy())
        ys.append(targets(some, x_NTD.shape[1])[inside_NT][::stride].copy())
    return np.concatenate(xs), np.concatenate(ys)
