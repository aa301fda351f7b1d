"""Functions with a gradient of their own: Swoosh, and those that return their input and change its gradient.

The latter keep a Zipformer trainable at high learning rates. Yao et al., "Zipformer: A faster and better encoder for
automatic speech recognition", ICLR 2024, and its reference implementation. Channels are the last axis; statistics run
over all other axes of the array that is given, in float32. Under ``jax.jit`` with shardings that is the global batch
(the reference takes them per process); padded frames count, as they do in the reference. ``draw`` is uniform in [0, 1).
A function acts when it falls below its probability; that is decided in the backward pass, and costs nothing otherwise.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from alp_jax.models.transformer import wide

_TINY = 1e-20


def rms_of_mean_abs(value):
    """The root mean square of normally distributed data whose mean absolute value is ``value``."""
    return math.sqrt(math.pi / 2) * value


def mean_of_positive_share(share):
    """Mean over standard deviation of data of which ``share`` is positive; the reference's rough inverse of erf."""
    x, eps, log = 2.0 * share - 1.0, 1e-10, math.log if isinstance(share, float) else jnp.log
    return 0.8139535143 * 0.5 * (log(1.0 + x + eps) - log(1.0 - x + eps))


@jax.custom_vjp
def balance(x, draw, prob, mean_limits, rms_limits, grad_scale):
    """Pushes back channels whose mean (in standard deviations) or root mean square is beyond limits.

    Args:
      x: any shape (..., channels).
      draw, prob: scalars.
      mean_limits, rms_limits: (lowest, highest), scalars.
      grad_scale: root mean square, per channel, of what is added in units of the gradient's own magnitude.
    """
    return x


def _balance_backward(saved, upstream):
    x, draw, prob, mean_limits, rms_limits, grad_scale = saved

    def push(x):
        """Of each channel: offset and slope of what is added to a gradient of 1, and the mean."""
        x_wide = wide(x)
        axes = tuple(range(x.ndim - 1))
        mean = _mean(x_wide, axes)
        variance = _mean(jnp.square(x_wide - mean), axes)  # power - mean^2 would lose what a large mean hides
        power = variance + jnp.square(mean)
        spread = lax.rsqrt(jnp.maximum(variance, _TINY))
        # |m - clip(m)| + |log(clip(rms) / rms)|, m the mean over the deviation, has a gradient that is affine in x
        m = mean * spread
        m_sign = (m > mean_limits[1]).astype(mean.dtype) - (m < mean_limits[0])
        low, high = (jnp.square(limit) for limit in rms_limits)
        rms_sign = (power > high).astype(mean.dtype) - ((power < low) & (power > _TINY))
        tilt = rms_sign / jnp.maximum(power, _TINY)
        offset = m_sign * spread + tilt * mean
        slope = tilt - jnp.where(variance > _TINY, m_sign * mean * spread**3, 0.0)
        square = jnp.square(offset) + jnp.square(slope) * variance
        scale = jnp.where(square > 0, grad_scale * lax.rsqrt(jnp.where(square > 0, square, 1.0)), 0.0)
        return jnp.stack([scale * offset, scale * slope, mean])

    # The branch returns three numbers per channel, not a gradient: so adding it fuses with what follows, and no branch
    # copies a whole array.
    channels = x.shape[-1]
    offset, slope, mean = lax.cond(draw < prob, push, lambda x: jnp.zeros((3, channels), wide(x).dtype), x)
    up_wide = wide(upstream)
    added = jnp.abs(up_wide) * (offset + slope * (wide(x) - mean))
    return (up_wide + added).astype(upstream.dtype), None, None, None, None, None


balance.defvjp(lambda *args: (args[0], args), _balance_backward)


def whitening_metric(x: jax.Array, groups: int) -> jax.Array:
    """How far the covariance within ``groups`` of channels is from a multiple of the identity; 1 if it is one."""
    return _whitening(x, groups)[0]


def _whitening(x, groups):
    """The metric and, up to a factor, its gradient."""
    frames_NGC = wide(x).reshape(-1, groups, x.shape[-1] // groups)
    centred_NGC = frames_NGC - _mean(frames_NGC, 0)
    gram_GCC = jnp.einsum("ngc,ngd->gcd", centred_NGC, centred_NGC, precision="highest")  # the metric has no scale
    width = x.shape[-1]
    trace, square = jnp.einsum("gcc->", gram_GCC), jnp.sum(jnp.square(gram_GCC))
    metric = square * width / (jnp.square(trace) + _TINY)
    push_GCC = gram_GCC - square / (trace + _TINY) * jnp.eye(gram_GCC.shape[-1])
    gradient = jnp.einsum("ngc,gcd->ngd", centred_NGC, push_GCC, precision="highest").reshape(x.shape)
    return metric, gradient


def _mean(x, axes):
    """As ``jnp.mean``, by a multiplication, which fuses with what comes next where a division does not."""
    return jnp.sum(x, axes) * (1.0 / math.prod(x.shape[axis] for axis in np.ravel(axes)))


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def whiten(x, beyond, draw, limit, settings):
    """Where the whitening metric is at or above ``limit``, adds its gradient.

    What is added has ``grad_scale`` times the norm of the upstream gradient. The probability of acting depends on the
    last measurement, which is therefore kept as state.

    Args:
      x: any shape (..., channels).
      beyond: scalar, 1.0 when the last measurement was at or above its limit (also at the start), 0.0 otherwise. Its
        "gradient" is the change to it: add that to get the new state.
      draw, limit: scalars.
      settings: (groups, (probability below the limit, probability beyond it), grad_scale), not traced.
    """
    return x


def _whiten_backward(settings, saved, upstream):
    x, beyond, draw, limit = saved
    groups, (low, high), grad_scale = settings

    def act(upstream):
        metric, gradient = _whitening(x, groups)
        up_wide = wide(upstream)
        scale = grad_scale * jnp.linalg.norm(up_wide.ravel()) / (jnp.linalg.norm(gradient.ravel()) + _TINY)
        now = metric >= limit
        changed = (up_wide + jnp.where(now, scale, 0.0) * gradient).astype(upstream.dtype)
        return changed, now.astype(beyond.dtype) - beyond

    def pass_on(upstream):
        return upstream, jnp.zeros_like(beyond)

    return *lax.cond(draw < jnp.where(beyond > 0.5, high, low), act, pass_on, upstream), None, None


whiten.defvjp(lambda x, beyond, draw, limit, settings: (x, (x, beyond, draw, limit)), _whiten_backward)


@jax.custom_vjp
def limit_values(x, draw, prob, low, high):
    """Flips the sign of gradients that would carry elements of a parameter further out of [``low``, ``high``]."""
    return x


def _limit_backward(saved, upstream):
    x, draw, prob, low, high = saved
    outward = ((upstream > 0) & (x < low)) | ((upstream < 0) & (x > high))
    return jnp.where(outward & (draw < prob), -upstream, upstream), None, None, None, None


limit_values.defvjp(lambda *args: (args[0], args), _limit_backward)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def penalize_abs_above(x, draw, prob, limit, penalty):
    """As if ``penalty`` * sum(max(|x| - limit, 0)) were part of the loss: absolute, whatever the upstream gradient."""
    return x


def _penalize_forward(x, draw, prob, limit, penalty):
    direction = (jnp.sign(x) * (jnp.abs(x) > limit)).astype(jnp.int8)  # a quarter of the memory of x
    return x, (direction, draw, prob)


def _penalize_backward(limit, penalty, saved, upstream):
    direction, draw, prob = saved
    return upstream + jnp.where(draw < prob, penalty, 0.0) * direction.astype(upstream.dtype), None, None


penalize_abs_above.defvjp(_penalize_forward, _penalize_backward)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def scale_gradient(x, factor):
    """Multiplies the gradient by ``factor``."""
    return x


scale_gradient.defvjp(lambda x, factor: (x, None), lambda factor, _, upstream: (upstream * factor,))


def sigmoid(x: jax.Array) -> jax.Array:
    """1 / (1 + exp(-x)) by way of tanh, which XLA on CPU computes six times faster than its logistic function."""
    return 0.5 + 0.5 * jnp.tanh(0.5 * x)


def _swoosh(shift: float, offset: float) -> Callable[..., jax.Array]:
    """log(1 + exp(x - shift)) - 0.08 x - offset in float32; in the form ``own`` only ``x`` is kept for the derivative.

    On CPU, log and tanh are one vector loop; log1p and XLA's logistic function are three to six times slower. Errors
    are the same, because exp(-|z|) is at most 1 and what is lost below float32's epsilon is lost in the sum anyway.
    """

    @jax.custom_vjp
    def activation(x: jax.Array) -> jax.Array:
        z = wide(x) - shift
        softplus = jnp.maximum(z, 0.0) + jnp.log(1.0 + jnp.exp(-jnp.abs(z)))
        return (softplus - 0.08 * (z + shift) - offset).astype(x.dtype)

    def backward(x, upstream):
        slope = sigmoid(wide(x) - shift) - 0.08
        return ((wide(upstream) * slope).astype(x.dtype),)

    activation.defvjp(lambda x: (activation(x), x), backward)

    def by_form(x: jax.Array, form: str = "own") -> jax.Array:
        if form == "own":
            return activation(x)
        return (jnp.logaddexp(wide(x) - shift, 0.0) - 0.08 * wide(x) - offset).astype(x.dtype)

    return by_form


swoosh_l = _swoosh(4.0, 0.035)
swoosh_r = _swoosh(1.0, 0.313261687)
