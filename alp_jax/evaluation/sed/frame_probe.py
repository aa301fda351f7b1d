"""A linear probe on single frames, fitted for several settings at once; clips are read in batches to bound memory."""

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.ndimage import median_filter

from alp_jax.evaluation.frozen_fit import Frames, fit, sampled
from alp_jax.evaluation.stats.metrics import mean_average_precision

SETTINGS = tuple((lr, decay) for lr in (3e-3, 1e-2, 3e-2) for decay in (1e-3, 1e-1))  # AdamW: rate, weight decay
STEPS, WARMUP, BATCH = 400, 20, 32  # clips in a batch
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


def fit_frame_probe(
    frames: Frames, targets: Callable[[np.ndarray, int], np.ndarray], held: np.ndarray, classes: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, dict]:
    """Fits sigmoid classifiers of single frames; mean average precision over held-out frames selects a setting.

    Args:
      frames: reads clips by position, 0 to ``len(held)``.
      targets: (clips, T) -> float32[N,T,C], 1 where a class sounds.
      held: bool[clips], True for clips that only select a setting.
      classes: C.

    Returns:
      weight_DC and bias_C, which apply to frames that are not standardised, and what was selected.
    """
    fitted = np.flatnonzero(~held)
    mean_D, scale_D = moments(frames, fitted)
    setting_G2 = jnp.asarray(SETTINGS, jnp.float32)
    params = {
        "w": jnp.zeros((len(SETTINGS), len(mean_D), classes)),
        "b": jnp.full((len(SETTINGS), classes), -3.0),  # most frames of most classes are silent
    }
    start, update = _trainer()

    def step(params, state, clips: np.ndarray):
        x_NTD, len_N = frames(clips)
        x_NTD = (x_NTD - mean_D) * scale_D
        return update(params, state, setting_G2, x_NTD, len_N, targets(clips, x_NTD.shape[1]))

    clips = sampled(np.random.default_rng(seed), fitted, BATCH)
    params = fit(step, params, start(params, setting_G2), clips, steps=STEPS, label="frame probe").params
    weight_GDC = np.asarray(params["w"]) * scale_D[None, :, None]
    bias_GC = np.asarray(params["b"]) - np.einsum("d,gdc->gc", mean_D, weight_GDC)
    scores = _select(frames, targets, np.flatnonzero(held), weight_GDC, bias_GC)
    best = int(np.argmax(scores))
    lr, decay = SETTINGS[best]
    return weight_GDC[best], bias_GC[best], {"lr": lr, "weight_decay": decay, "selection_score": scores[best]}


def frame_scores(
    frames: Frames, clips: np.ndarray, weight_DC: np.ndarray, bias_C: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(scores_NTC float32 between 0 and 1, len_N) of ``clips``, for the classes of ``weight_DC``."""
    batches, lengths = [], []
    for x_NTD, len_N in _batches(frames, clips):
        batches.append(1 / (1 + np.exp(-np.clip(x_NTD @ weight_DC + bias_C, -60, 60))))
        lengths.append(len_N)
    width = max(scores.shape[1] for scores in batches)
    padded = [np.pad(scores, [(0, 0), (0, width - scores.shape[1]), (0, 0)]) for scores in batches]
    return np.concatenate(padded).astype(np.float32), np.concatenate(lengths)


def smoothed(scores_NTC: np.ndarray, len_N: np.ndarray, width: int) -> np.ndarray:
    """Running medians over ``width`` (odd) frames, per clip and class; the first and last value repeat beyond it."""
    medians_NTC = np.zeros_like(scores_NTC)
    for n, length in enumerate(len_N):
        medians_NTC[n, :length] = median_filter(scores_NTC[n, :length], size=(width, 1), mode="nearest")
    return medians_NTC


def _batches(frames: Frames, clips: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(clips), BATCH):
        yield frames(clips[start : start + BATCH])


@functools.cache
def _trainer() -> tuple[Callable, Callable]:
    """(start, update) for all settings at once; cached, so that all tasks and models of a process share them."""

    def optimizer(setting_2):
        rate = optax.warmup_cosine_decay_schedule(0.0, 1.0, WARMUP, STEPS)
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


def _select(frames: Frames, targets, clips: np.ndarray, weight_GDC, bias_GC) -> list[float]:
    """Mean average precision over frames of ``clips`` for every setting."""
    xs, ys = [], []
    for start in range(0, len(clips), BATCH):
        some = clips[start : start + BATCH]
        x_NTD, len_N = frames(some)
        inside_NT = np.arange(x_NTD.shape[1]) < len_N[:, None]
        stride = max(1, len(clips) * x_NTD.shape[1] // SCORED_FRAMES)
        xs.append(x_NTD[inside_NT][::stride])
        ys.append(targets(some, x_NTD.shape[1])[inside_NT][::stride])
    y_FC = np.concatenate(ys)
    x_FD = np.concatenate(xs)
    values = [mean_average_precision(x_FD @ w + b, y_FC).value for w, b in zip(weight_GDC, bias_GC, strict=True)]
    return [-1.0 if np.isnan(value) else value for value in values]  # NaN: no class sounds in any frame
