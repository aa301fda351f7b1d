"""Depthwise convolutions along time (1-D) and over time and frequency (2-D), in two forms with equal results.

``shift`` adds shifted copies, with a gradient of its own; ``lax`` is the grouped convolution of XLA, which on CPU is
several times slower.

XLA's partitioner multiplies the kernel's gradient of a grouped convolution by the number of copies of an input that is
split by rows and copied over another axis (seen in 0.10.2). So lax splits the channels over that axis, and where it
does not divide them shift takes its place.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from alp_jax.models.precision import wide
from alp_jax.parallel.activations import constrain, divides

Pad = tuple[int, int]


def depthwise1d(x_BTC: jax.Array, kernel_KC: jax.Array, pad: Pad, form: str) -> jax.Array:
    """y[t] = sum_k x[t - pad[0] + k] kernel[k] with zeros outside; ``form`` is ``shift`` or ``lax``."""
    if form == "shift" or not divides("hidden", x_BTC.shape[-1]):
        return _shift1d(x_BTC, kernel_KC, pad)
    return lax.conv_general_dilated(
        constrain(x_BTC, "batch", "time", "hidden"),
        kernel_KC[:, None, :],
        (1,),
        [pad],
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=x_BTC.shape[-1],
    )


def depthwise2d(x_BTFC: jax.Array, kernel_KLC: jax.Array, form: str) -> jax.Array:
    """Odd kernel, zero padding that keeps the shape; ``form`` is ``shift`` or ``lax``."""
    if form == "shift" or not divides("hidden", x_BTFC.shape[-1]):
        return _shift2d(x_BTFC, kernel_KLC)
    return lax.conv_general_dilated(
        constrain(x_BTFC, "batch", "time", "bins", "hidden"),
        kernel_KLC[:, :, None, :],
        (1, 1),
        [(k // 2, k // 2) for k in kernel_KLC.shape[:2]],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x_BTFC.shape[-1],
    )


def _add_shifted1d(x_BTC, kernel_KC, pad):
    taps = kernel_KC.shape[0]
    padded = jnp.pad(x_BTC, ((0, 0), pad, (0, 0)))
    length = padded.shape[1] - taps + 1
    return functools.reduce(
        jnp.add, (lax.slice_in_dim(padded, k, k + length, axis=1) * kernel_KC[k] for k in range(taps))
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _shift1d(x_BTC, kernel_KC, pad):
    return _add_shifted1d(x_BTC, kernel_KC, pad)


def _shift1d_backward(pad, saved, upstream_BTC):
    x_BTC, kernel_KC = saved
    taps, length = kernel_KC.shape[0], upstream_BTC.shape[1]
    padded = jnp.pad(x_BTC, ((0, 0), pad, (0, 0)))

    def tap(k):  # a loop: unrolled, XLA on CPU reads both arrays once per tap without vectorising
        product = lax.dynamic_slice_in_dim(padded, k, length, 1) * upstream_BTC
        return jnp.sum(wide(product), axis=(0, 1))

    grad_kernel = lax.map(tap, jnp.arange(taps)).astype(kernel_KC.dtype)
    grad_x = _add_shifted1d(upstream_BTC, kernel_KC[::-1], (taps - 1 - pad[0], taps - 1 - pad[1]))
    return grad_x, grad_kernel


_shift1d.defvjp(lambda x, kernel, pad: (_shift1d(x, kernel, pad), (x, kernel)), _shift1d_backward)


def _pad2d(x_BTFC, kernel_shape):
    time, freq = (k // 2 for k in kernel_shape[:2])
    return jnp.pad(x_BTFC, ((0, 0), (time, time), (freq, freq), (0, 0)))


def _add_shifted2d(x_BTFC, kernel_KLC):
    num_frames, num_bins = x_BTFC.shape[1:3]
    padded = _pad2d(x_BTFC, kernel_KLC.shape)
    return functools.reduce(
        jnp.add,
        (
            padded[:, i : i + num_frames, j : j + num_bins] * kernel_KLC[i, j]
            for i in range(kernel_KLC.shape[0])
            for j in range(kernel_KLC.shape[1])
        ),
    )


@jax.custom_vjp
def _shift2d(x_BTFC, kernel_KLC):
    return _add_shifted2d(x_BTFC, kernel_KLC)


def _shift2d_backward(saved, upstream_BTFC):
    x_BTFC, kernel_KLC = saved
    width = kernel_KLC.shape[1]
    num_clips, num_frames, num_bins, channels = x_BTFC.shape
    # bins and channels as one axis: a shift in frequency is a shift of it, and sums over time run along long rows
    padded = _pad2d(x_BTFC, kernel_KLC.shape).reshape(num_clips, -1, (num_bins + width - 1) * channels)
    upstream = upstream_BTFC.reshape(num_clips, num_frames, -1)

    def tap(k):
        start = (0, k // width, k % width * channels)
        product = lax.dynamic_slice(padded, start, upstream.shape) * upstream
        return jnp.sum(wide(product), axis=(0, 1)).reshape(num_bins, channels).sum(axis=0)

    grad_kernel = lax.map(tap, jnp.arange(kernel_KLC.shape[0] * width)).reshape(kernel_KLC.shape)
    return _add_shifted2d(upstream_BTFC, kernel_KLC[::-1, ::-1]), grad_kernel.astype(kernel_KLC.dtype)


_shift2d.defvjp(lambda x, kernel: (_shift2d(x, kernel), (x, kernel)), _shift2d_backward)
