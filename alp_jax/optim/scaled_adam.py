"""ScaledAdam: Adam whose steps are relative to each parameter's size, which it also learns as a parameter of its own.

Yao et al., "Zipformer", ICLR 2024, section 3.4; in the older of the two forms that the reference implementation had:
the one of the authors' toolbox for audio-language training.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

_EARLY = (10, 20, 40)  # updates at which the clipping threshold is estimated before a whole period is known


class Settings(NamedTuple):
    """Constants of ScaledAdam; the defaults are the reference's.

    Fields:
      b1, b2, eps: as in Adam.
      scalar_lr_scale: rate of single numbers and of parameter sizes, in units of the learning rate.
      min_rms, max_rms: a parameter's step never scales with less than ``min_rms``; it does not grow past ``max_rms``.
      scalar_max: single numbers stay within it.
      size_period: updates between two steps of the sizes.
      clipping_scale: gradients beyond this many times the median norm are scaled down; 0 turns clipping off.
      clipping_period: updates over which that median is taken.
    """

    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-8
    scalar_lr_scale: float = 0.1
    min_rms: float = 1e-5
    max_rms: float = 3.0
    scalar_max: float = 10.0
    size_period: int = 4
    clipping_scale: float = 2.0
    clipping_period: int = 100


REFERENCE = Settings()


class Clipping(NamedTuple):
    """Norms of the last ``clipping_period`` updates by group, the threshold, and the factor of the last update."""

    norms_GK: jax.Array
    threshold_G: jax.Array
    factor_G: jax.Array


class ScaledAdamState(NamedTuple):
    """``delta`` and ``exp_avg_sq`` are shaped as the parameters; what is one number per parameter is stacked (N)."""

    count: jax.Array
    delta: Any
    exp_avg_sq: Any
    rms_N: jax.Array
    size_exp_avg_sq_N: jax.Array
    size_grads_PN: jax.Array
    clipping: Clipping


def scaled_adam(
    learning_rate: Callable[[jax.Array], jax.Array],
    settings: Settings = REFERENCE,
    *,
    lr_scales: Callable[[Any], list[float]] = lambda params: [1.0] * len(jax.tree.leaves(params)),
) -> optax.GradientTransformation:
    """ScaledAdam as an optax transformation; updates are to be added to the parameters.

    Norms run over whole (global) arrays. Parameters with the same learning rate form a group, clipped by itself. A
    gradient of infinite norm becomes zero once a threshold is known; before that it is applied, and a gradient with
    NaNs always is, to its own parameter: the train step leaves both out beforehand.

    Args:
      learning_rate: rate by number of earlier updates.
      settings: constants.
      lr_scales: factors on the rate, one per leaf of the parameters; 0 freezes a parameter.
    """

    def init(params):
        leaves, scales = jax.tree.leaves(params), lr_scales(params)
        groups = len(_groups(scales))
        zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
        return ScaledAdamState(
            count=jnp.zeros((), jnp.int32),
            delta=zeros,
            exp_avg_sq=jax.tree.map(jnp.zeros_like, zeros),
            rms_N=_stack(_rms(p) for p in leaves),
            size_exp_avg_sq_N=jnp.zeros(len(leaves)),
            size_grads_PN=jnp.zeros((settings.size_period, len(leaves))),
            clipping=Clipping(
                jnp.zeros((groups, settings.clipping_period)), jnp.full(groups, jnp.inf), jnp.ones(groups)
            ),
        )

    def update(grads, state, params=None):
        if params is None:
            raise ValueError("scaled_adam needs the parameters")
        scales, treedef = lr_scales(params), jax.tree.structure(params)
        p_N, g_N = jax.tree.leaves(params), [g.astype(jnp.float32) for g in jax.tree.leaves(grads)]
        clipping = _clip(g_N, state, scales, settings)
        factors = [0.0 if scale == 0 else clipping.factor_G[_groups(scales).index(scale)] for scale in scales]
        # the product with an infinite gradient would not be a number
        g_N = [jnp.where(factor == 0, 0.0, g * factor) for g, factor in zip(g_N, factors, strict=True)]
        lr = learning_rate(state.count)
        rms_N, size = _sizes(p_N, g_N, lr, scales, state, settings)
        delta_N, square_N, update_N = [], [], []
        before = zip(jax.tree.leaves(state.delta), jax.tree.leaves(state.exp_avg_sq), strict=True)
        for i, (p, g, (delta, square)) in enumerate(zip(p_N, g_N, before, strict=True)):
            step = _scalar_step if p.size == 1 else _tensor_step
            sizes = rms_N[i], size.steps_N[i]
            delta, square, change = step(p, g, delta, square, lr * scales[i], sizes, state.count, settings)
            delta_N.append(delta)
            square_N.append(square)
            update_N.append(jnp.zeros_like(p) if scales[i] == 0 else change.astype(p.dtype))
        new_state = ScaledAdamState(
            count=state.count + 1,
            delta=treedef.unflatten(delta_N),
            exp_avg_sq=treedef.unflatten(square_N),
            rms_N=rms_N,
            size_exp_avg_sq_N=size.exp_avg_sq_N,
            size_grads_PN=size.grads_PN,
            clipping=clipping,
        )
        return treedef.unflatten(update_N), new_state

    return optax.GradientTransformation(init, update)


class _Sizes(NamedTuple):
    grads_PN: jax.Array
    exp_avg_sq_N: jax.Array
    steps_N: jax.Array  # relative change of each size in this update, 0 in most


def _sizes(p_N, g_N, lr, scales, state, s: Settings) -> tuple[jax.Array, _Sizes]:
    """Root mean squares of the parameters and the step of their sizes, both new every ``size_period`` updates."""
    dots_N = _stack(jnp.sum(p * g) for p, g in zip(p_N, g_N, strict=True))
    grads_PN = state.size_grads_PN.at[state.count % s.size_period].set(dots_N)
    due = state.count % s.size_period == s.size_period - 1
    rms_N = jax.lax.cond(due, lambda: _stack(_rms(p) for p in p_N), lambda: state.rms_N)
    b2 = s.b2**s.size_period
    square_N = b2 * state.size_exp_avg_sq_N + (1 - b2) * jnp.mean(jnp.square(grads_PN), axis=0)
    corrected = _one_minus_power(b2, (state.count + 1) // s.size_period)
    lr_N = lr * jnp.asarray(scales) * s.scalar_lr_scale
    step_N = -lr_N * jnp.sqrt(corrected) * jnp.sum(grads_PN, axis=0) / (jnp.sqrt(square_N) + s.eps)
    step_N = jnp.where(rms_N < s.min_rms, 0.0, step_N)
    step_N = jnp.minimum(step_N, (s.max_rms - rms_N) / jnp.maximum(rms_N, s.min_rms))
    due &= state.count > 0  # with a period of 1 the first update has no size step
    return rms_N, _Sizes(grads_PN, jnp.where(due, square_N, state.size_exp_avg_sq_N), jnp.where(due, step_N, 0.0))


def _tensor_step(p, g, delta, square, lr, sizes, count, s: Settings):
    rms, size_step = sizes
    square = s.b2 * square + (1 - s.b2) * jnp.square(g)
    corrected = _one_minus_power(s.b2, count + 1)
    denominator = jnp.sqrt(square / jnp.where(corrected < 0.99, corrected, 1.0)) + s.eps
    alpha = lr * (1 - s.b1) * jnp.maximum(rms, s.min_rms)
    delta = s.b1 * delta + (1 - s.b1) * size_step * p - alpha * g / denominator
    return delta, square, delta


def _scalar_step(p, g, delta, square, lr, sizes, count, s: Settings):
    square = s.b2 * square + (1 - s.b2) * jnp.square(g)
    denominator = jnp.sqrt(square / _one_minus_power(s.b2, count + 1)) + s.eps
    delta = s.b1 * delta - lr * s.scalar_lr_scale * (1 - s.b1) * g / denominator
    return delta, square, jnp.clip(p, -s.scalar_max, s.scalar_max) + delta - p


def _clip(g_N, state, scales, s: Settings) -> Clipping:
    """Norms weighted by parameter sizes, their median over the last updates, and the factor on each group."""
    norms_GK, threshold_G, _ = state.clipping
    groups, count = _groups(scales), state.count
    if s.clipping_scale == 0:
        return state.clipping
    weighted_N = [
        jnp.sum(jnp.square(g * (s.scalar_lr_scale if g.size == 1 else state.rms_N[i]))) for i, g in enumerate(g_N)
    ]
    norm_G = jnp.sqrt(
        _stack(sum(w for w, scale in zip(weighted_N, scales, strict=True) if scale == group) for group in groups)
    )
    recorded = jnp.where(count == 0, norms_GK[:, 0], norm_G)
    norms_GK = norms_GK.at[:, count % s.clipping_period].set(recorded)
    for early in (n for n in _EARLY if n < s.clipping_period):
        median_G = jnp.sort(norms_GK, axis=1)[:, s.clipping_period - early + early // 4 * 2]
        threshold_G = jnp.where(count == early, 2.0 * s.clipping_scale * median_G, threshold_G)
    median_G = jnp.sort(norms_GK, axis=1)[:, min(s.clipping_period - 1, s.clipping_period // 4 * 2)]
    whole = (count > 0) & (count % s.clipping_period == 0)
    threshold_G = jnp.where(whole, s.clipping_scale * median_G, threshold_G)
    ratio_G = threshold_G / (norm_G + 1e-20)  # of a norm with NaNs not a number, and then not below 1
    return Clipping(norms_GK, threshold_G, jnp.where(ratio_G < 1.0, ratio_G, 1.0))


def _groups(scales: list[float]) -> list[float]:
    """The learning rate scales in use, each a group."""
    return sorted({scale for scale in scales if scale != 0}) or [1.0]


def _one_minus_power(base: float, exponent: jax.Array) -> jax.Array:
    """1 - base^exponent without cancellation."""
    return -jnp.expm1(exponent * jnp.log(base))


def _rms(p: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.mean(jnp.square(p.astype(jnp.float32))))


def _stack(numbers) -> jax.Array:
    return jnp.stack([jnp.asarray(x, jnp.float32) for x in numbers])
