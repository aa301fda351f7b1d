"""ScaledAdam: Adam whose steps are relative to each parameter's size, which it also learns as a parameter of its own.

Yao et al., "Zipformer", ICLR 2024, section 3.4, in the older of the reference implementation's two forms, which is the
one in the authors' toolbox for audio-language training.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alp_jax.optim.stacks import Stacks

_EARLY = (10, 20, 40)  # updates at which the clipping threshold is estimated before a whole period is known


class ScaledAdamSettings(NamedTuple):
    """Constants of ScaledAdam; the defaults are the reference's.

    Fields:
      b1, b2, eps: as in Adam.
      scalar_lr_scale: rate of single numbers and of parameter sizes, in units of the learning rate.
      min_rms, max_rms: limits on a parameter's root mean square (RMS). Steps scale with at least ``min_rms``, and size
        steps do not grow a parameter past ``max_rms``.
      scalar_max: single numbers are clipped to this magnitude before each step.
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


REFERENCE = ScaledAdamSettings()


class Clipping(NamedTuple):
    """Per group: the norms of the last ``clipping_period`` updates, the threshold, and the last update's factor."""

    norms_GK: jax.Array
    threshold_G: jax.Array
    factor_G: jax.Array


class ScaledAdamState(NamedTuple):
    """``delta`` and ``exp_avg_sq`` have the layout of ``Stacks.join``; per-parameter numbers (N) are in leaf order."""

    count: jax.Array
    delta: Any
    exp_avg_sq: Any
    rms_N: jax.Array
    size_exp_avg_sq_N: jax.Array
    size_grads_PN: jax.Array
    clipping: Clipping


def scaled_adam(
    learning_rate: Callable[[jax.Array], jax.Array],
    settings: ScaledAdamSettings = REFERENCE,
    *,
    lr_scales: Callable[[Any], list[float]] = lambda params: [1.0] * len(jax.tree.leaves(params)),
) -> optax.GradientTransformation:
    """ScaledAdam as an optax transformation, whose updates are added to the parameters.

    Norms are taken over whole (global) arrays. Parameters with the same learning rate form a group, which is clipped on
    its own. A gradient of infinite norm becomes zero once a threshold is known, and is applied before that; one with
    NaNs is always applied to its parameter. Neither occurs in training, where the step skips such updates.

    Args:
      learning_rate: the rate, given the number of earlier updates.
      settings: constants.
      lr_scales: factors on the rate, one per leaf of the parameters; 0 freezes a parameter.
    """

    def init(params):
        stacks, groups = Stacks(params), len(_groups(lr_scales(params)))
        joined = stacks.join(params)
        zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), joined)
        zero_N = jnp.zeros(len(jax.tree.leaves(params)))
        return ScaledAdamState(
            count=jnp.zeros((), jnp.int32),
            delta=zeros,
            exp_avg_sq=jax.tree.map(jnp.zeros_like, zeros),
            rms_N=jnp.sqrt(stacks.dots(joined, joined) / stacks.size_N),
            size_exp_avg_sq_N=zero_N,
            size_grads_PN=jnp.zeros((settings.size_period, len(zero_N))),
            clipping=Clipping(
                jnp.zeros((groups, settings.clipping_period)), jnp.full(groups, jnp.inf), jnp.ones(groups)
            ),
        )

    def update(grads, state, params=None):
        if params is None:
            raise ValueError("scaled_adam needs the parameters")
        stacks, scale_N = Stacks(params), np.asarray(lr_scales(params))
        p_tree, g_tree = stacks.join(params), stacks.join(grads)
        # Clipping comes first, on the raw gradients: everything below uses gradients that carry its factor.
        clipping = _clip(stacks.dots(g_tree, g_tree), stacks.size_N, state, scale_N, settings)
        factor_N = _by_parameter(clipping.factor_G, scale_N)
        lr = learning_rate(state.count)
        dot_N = _times(stacks.dots(p_tree, g_tree), factor_N)
        rms_N = jnp.sqrt(stacks.dots(p_tree, p_tree) / stacks.size_N)
        # Sizes come next. Steps scale with the RMS as of the last size step, not with that of this update, so that the
        # effective rate is constant within a period, as in the reference.
        size = _sizes(dot_N, rms_N, lr * scale_N, state, settings)
        each = zip(*map(jax.tree.leaves, (p_tree, g_tree, state.delta, state.exp_avg_sq)), strict=True)
        leaves = []
        for (p, g, delta, square), of_each in zip(each, stacks.pickers(), strict=True):
            g = _times(g.astype(jnp.float32), of_each(factor_N))
            numbers = lr * of_each(scale_N), of_each(size.rms_N), of_each(size.steps_N)
            # the leaves of a stack share one shape, so the first size speaks for all
            step = _scalar_step if np.ravel(of_each(stacks.size_N))[0] == 1 else _tensor_step
            delta, square, change = step(p, g, delta, square, numbers, state.count, settings)
            # at a rate of 0, max_rms and scalar_max could still move a parameter; a frozen one must not move at all
            leaves.append((delta, square, jnp.where(of_each(scale_N) == 0, 0.0, change).astype(p.dtype)))
        delta, square, change = (
            jax.tree.unflatten(jax.tree.structure(p_tree), part) for part in zip(*leaves, strict=True)
        )
        new_state = ScaledAdamState(
            count=state.count + 1,
            delta=delta,
            exp_avg_sq=square,
            rms_N=size.rms_N,
            size_exp_avg_sq_N=size.exp_avg_sq_N,
            size_grads_PN=size.grads_PN,
            clipping=clipping,
        )
        return stacks.split(change), new_state

    return optax.GradientTransformation(init, update)


class _Sizes(NamedTuple):
    rms_N: jax.Array  # as of the last size step
    grads_PN: jax.Array
    exp_avg_sq_N: jax.Array
    steps_N: jax.Array  # relative change of each size in this update, 0 in most


def _sizes(dot_N, rms_N, lr_N, state, s: ScaledAdamSettings) -> _Sizes:
    """RMS values of the parameters and steps of their sizes, both renewed every ``size_period`` updates.

    Args:
      dot_N: inner product of each parameter with its gradient, which is the gradient of its size.
      rms_N: of the parameters as they are now.
    """
    grads_PN = state.size_grads_PN.at[state.count % s.size_period].set(dot_N)
    due = state.count % s.size_period == s.size_period - 1
    rms_N = jnp.where(due, rms_N, state.rms_N)
    b2 = s.b2**s.size_period  # size statistics advance once a period, so one of their steps decays by a whole period
    square_N = b2 * state.size_exp_avg_sq_N + (1 - b2) * jnp.mean(jnp.square(grads_PN), axis=0)
    corrected = _one_minus_power(b2, (state.count + 1) // s.size_period)
    rate_N = lr_N * s.scalar_lr_scale
    step_N = -rate_N * jnp.sqrt(corrected) * jnp.sum(grads_PN, axis=0) / (jnp.sqrt(square_N) + s.eps)
    # a parameter below min_rms is not shrunk further; the cap keeps growth to max_rms and pulls back what is above it
    step_N = jnp.where(rms_N < s.min_rms, 0.0, step_N)
    step_N = jnp.minimum(step_N, (s.max_rms - rms_N) / jnp.maximum(rms_N, s.min_rms))
    due &= state.count > 0  # with a period of 1 the first update has no size step
    return _Sizes(rms_N, grads_PN, jnp.where(due, square_N, state.size_exp_avg_sq_N), jnp.where(due, step_N, 0.0))


def _tensor_step(p, g, delta, square, numbers, count, s: ScaledAdamSettings):
    lr, rms, size_step = numbers
    square = s.b2 * square + (1 - s.b2) * jnp.square(g)
    corrected = _one_minus_power(s.b2, count + 1)
    # the reference stops correcting the bias once it is below one per cent; going on would change the last digits
    denominator = jnp.sqrt(square / jnp.where(corrected < 0.99, corrected, 1.0)) + s.eps
    alpha = lr * (1 - s.b1) * jnp.maximum(rms, s.min_rms)
    # the size step goes through the momentum: added to p directly, it would not be smoothed
    delta = s.b1 * delta + (1 - s.b1) * size_step * p - alpha * g / denominator
    return delta, square, delta


def _scalar_step(p, g, delta, square, numbers, count, s: ScaledAdamSettings):
    lr = numbers[0]
    square = s.b2 * square + (1 - s.b2) * jnp.square(g)
    denominator = jnp.sqrt(square / _one_minus_power(s.b2, count + 1)) + s.eps
    delta = s.b1 * delta - lr * s.scalar_lr_scale * (1 - s.b1) * g / denominator
    # the reference clips the number and then moves it, so that it can end up to one step outside the limit
    return delta, square, jnp.clip(p, -s.scalar_max, s.scalar_max) + delta - p


def _clip(square_N, size_N, state, scale_N, s: ScaledAdamSettings) -> Clipping:
    """The clipping state after an update: norms weighted by parameter sizes, the threshold, the factor on each group.

    Args:
      square_N: sums of the squares of the gradients.
      size_N: numbers in each parameter.
    """
    norms_GK, threshold_G, _ = state.clipping
    count = state.count
    if s.clipping_scale == 0:
        return state.clipping
    # times its size, a gradient is the gradient by a relative change, which is what steps are
    weighted_N = square_N * jnp.square(jnp.where(size_N == 1, s.scalar_lr_scale, state.rms_N))
    norm_G = jnp.sqrt(jnp.stack([jnp.sum(weighted_N[np.flatnonzero(scale_N == group)]) for group in _groups(scale_N)]))
    # the first norm is not recorded, as in the reference
    recorded = jnp.where(count == 0, norms_GK[:, 0], norm_G)
    norms_GK = norms_GK.at[:, count % s.clipping_period].set(recorded)
    # Slots that are still empty hold 0 and sort to the front, so the last ``early`` entries are the ones recorded.
    # n // 4 * 2 is the reference's median index. Few norms make a poor estimate, which is allowed twice the room.
    for early in (n for n in _EARLY if n < s.clipping_period):
        median_G = jnp.sort(norms_GK, axis=1)[:, s.clipping_period - early + early // 4 * 2]
        threshold_G = jnp.where(count == early, 2.0 * s.clipping_scale * median_G, threshold_G)
    median_G = jnp.sort(norms_GK, axis=1)[:, min(s.clipping_period - 1, s.clipping_period // 4 * 2)]
    whole = (count > 0) & (count % s.clipping_period == 0)
    threshold_G = jnp.where(whole, s.clipping_scale * median_G, threshold_G)
    ratio_G = threshold_G / (norm_G + 1e-20)  # a NaN norm gives NaN, which the comparison turns into 1
    return Clipping(norms_GK, threshold_G, jnp.where(ratio_G < 1.0, ratio_G, 1.0))


def _groups(scales) -> list[float]:
    """The learning rate scales in use, sorted; each is a group."""
    return sorted({float(scale) for scale in scales if scale != 0}) or [1.0]


def _by_parameter(factor_G: jax.Array, scale_N: np.ndarray) -> jax.Array:
    """The factor of each parameter's group; 0 where it is frozen."""
    # exact, as the groups are sorted; a frozen parameter finds some group and is set to 0 below
    group_N = np.searchsorted(_groups(scale_N), scale_N).clip(max=len(factor_G) - 1)
    return jnp.where(scale_N == 0, 0.0, factor_G[group_N])


def _times(x: jax.Array, factor: jax.Array) -> jax.Array:
    """``x * factor``, but 0 where the factor is 0, even for an infinite ``x``: 0 * inf would be NaN."""
    return jnp.where(factor == 0, 0.0, x * factor)


def _one_minus_power(base: float, exponent: jax.Array) -> jax.Array:
    """1 - base^exponent without cancellation."""
    return -jnp.expm1(exponent * jnp.log(base))
