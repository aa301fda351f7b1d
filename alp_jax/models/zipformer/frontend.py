"""Convolutions in two forms, and the front end built of them: 100 frames of log-mel per second become 50 embeddings.

Depthwise convolutions along time (1-D) and over time and frequency (2-D): ``shift`` adds shifted copies, with a
gradient of its own; ``lax`` is the grouped convolution of XLA, which on CPU is several times slower.

When the input of a grouped convolution is split by rows and replicated over another axis, XLA's partitioner multiplies
the kernel's gradient by the number of replicas (seen in 0.10.2). So ``lax`` splits the channels over that axis, and
``shift`` takes its place where the axis does not divide them.
"""

import functools
import math
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from alp_jax.models.forms import Forms
from alp_jax.models.gradients import scale_gradient, swoosh_l, swoosh_r
from alp_jax.models.regularisers import (
    Balancer,
    DrawCounts,
    Draws,
    ValueLimit,
    Whiten,
    keep_clips,
    line,
    shared_dropout,
    whitening_limit,
)
from alp_jax.models.transformer import linear, scaled_linear, uniform, wide, wide_type
from alp_jax.parallel.mesh import constrain, divides

Pad = tuple[int, int]


def depthwise1d(x_BTC: jax.Array, kernel_IC: jax.Array, pad: Pad, form: str) -> jax.Array:
    """y[t] = sum_k x[t - pad[0] + k] kernel[k] with zeros outside; ``form`` is ``shift`` or ``lax``."""
    if form == "shift" or not divides("hidden", x_BTC.shape[-1]):
        return _shift1d(x_BTC, kernel_IC, pad)
    return lax.conv_general_dilated(
        constrain(x_BTC, "batch", "time", "hidden"),
        kernel_IC[:, None, :],
        (1,),
        [pad],
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=x_BTC.shape[-1],
    )


def depthwise2d(x_BTFC: jax.Array, kernel_IJC: jax.Array, form: str) -> jax.Array:
    """Odd kernel, zero padding that keeps the shape; ``form`` is ``shift`` or ``lax``."""
    if form == "shift" or not divides("hidden", x_BTFC.shape[-1]):
        return _shift2d(x_BTFC, kernel_IJC)
    return lax.conv_general_dilated(
        constrain(x_BTFC, "batch", "time", "bins", "hidden"),
        kernel_IJC[:, :, None, :],
        (1, 1),
        [(k // 2, k // 2) for k in kernel_IJC.shape[:2]],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x_BTFC.shape[-1],
    )


def _add_shifted1d(x_BTC, kernel_IC, pad):
    taps = kernel_IC.shape[0]
    padded = jnp.pad(x_BTC, ((0, 0), pad, (0, 0)))
    length = padded.shape[1] - taps + 1
    return functools.reduce(
        jnp.add, (lax.slice_in_dim(padded, k, k + length, axis=1) * kernel_IC[k] for k in range(taps))
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _shift1d(x_BTC, kernel_IC, pad):
    return _add_shifted1d(x_BTC, kernel_IC, pad)


def _shift1d_backward(pad, saved, upstream_BTC):
    x_BTC, kernel_IC = saved
    taps, length = kernel_IC.shape[0], upstream_BTC.shape[1]
    padded = jnp.pad(x_BTC, ((0, 0), pad, (0, 0)))

    def tap(k):  # a loop: unrolled, XLA on CPU reads both arrays once per tap without vectorising
        product = lax.dynamic_slice_in_dim(padded, k, length, 1) * upstream_BTC
        return jnp.sum(wide(product), axis=(0, 1))

    grad_kernel = lax.map(tap, jnp.arange(taps)).astype(kernel_IC.dtype)
    grad_x = _add_shifted1d(upstream_BTC, kernel_IC[::-1], (taps - 1 - pad[0], taps - 1 - pad[1]))
    return grad_x, grad_kernel


_shift1d.defvjp(lambda x, kernel, pad: (_shift1d(x, kernel, pad), (x, kernel)), _shift1d_backward)


def _pad2d(x_BTFC, kernel_shape):
    time, freq = (k // 2 for k in kernel_shape[:2])
    return jnp.pad(x_BTFC, ((0, 0), (time, time), (freq, freq), (0, 0)))


def _add_shifted2d(x_BTFC, kernel_IJC):
    num_frames, num_bins = x_BTFC.shape[1:3]
    padded = _pad2d(x_BTFC, kernel_IJC.shape)
    return functools.reduce(
        jnp.add,
        (
            padded[:, i : i + num_frames, j : j + num_bins] * kernel_IJC[i, j]
            for i in range(kernel_IJC.shape[0])
            for j in range(kernel_IJC.shape[1])
        ),
    )


@jax.custom_vjp
def _shift2d(x_BTFC, kernel_IJC):
    return _add_shifted2d(x_BTFC, kernel_IJC)


def _shift2d_backward(saved, upstream_BTFC):
    x_BTFC, kernel_IJC = saved
    width = kernel_IJC.shape[1]
    num_clips, num_frames, num_bins, channels = x_BTFC.shape
    # bins and channels as one axis: a shift in frequency is a shift of it, and sums over time run along long rows
    padded = _pad2d(x_BTFC, kernel_IJC.shape).reshape(num_clips, -1, (num_bins + width - 1) * channels)
    upstream = upstream_BTFC.reshape(num_clips, num_frames, -1)

    def tap(k):
        start = (0, k // width, k % width * channels)
        product = lax.dynamic_slice(padded, start, upstream.shape) * upstream
        return jnp.sum(wide(product), axis=(0, 1)).reshape(num_bins, channels).sum(axis=0)

    grad_kernel = lax.map(tap, jnp.arange(kernel_IJC.shape[0] * width)).reshape(kernel_IJC.shape)
    return _add_shifted2d(upstream_BTFC, kernel_IJC[::-1, ::-1]), grad_kernel.astype(kernel_IJC.dtype)


_shift2d.defvjp(lambda x, kernel: (_shift2d(x, kernel), (x, kernel)), _shift2d_backward)


class DepthwiseConv1d(nnx.Module):
    """Kernel (taps, channels) with ``pad`` zeros before and after."""

    def __init__(self, width: int, taps: int, pad: tuple[int, int], form: str, bias_bound: float, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(uniform(1.0 / math.sqrt(taps))(rngs.params(), (taps, width)))
        self.bias = nnx.Param(uniform(bias_bound)(rngs.params(), (width,)))
        self.pad, self.form = pad, form

    def __call__(self, x_BTC: jax.Array) -> jax.Array:
        y = depthwise1d(x_BTC, self.kernel[...].astype(x_BTC.dtype), self.pad, self.form)
        return y + self.bias[...].astype(y.dtype)


MIN_FRAMES = 9  # the shortest features that give one output frame
_WIDE = 16  # channels from which XLA's own gradient of the kernel is slower on CPU than matrix products


def output_length(num_frames):
    """Frames after the front end, of a whole number or an array of them."""
    return (num_frames - 7) // 2


def _convolve(x_BTFC: jax.Array, kernel: jax.Array, strides, pads) -> jax.Array:
    return lax.conv_general_dilated(x_BTFC, kernel, strides, pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve_one_channel(x_BTF1: jax.Array, kernel: jax.Array, pads) -> jax.Array:
    """``_convolve`` of one input channel with stride 1 as nine multiply-adds, on CPU some twenty times faster."""
    padded = jnp.pad(x_BTF1, ((0, 0), *pads, (0, 0)))
    num_frames, num_bins = padded.shape[1] - 2, padded.shape[2] - 2
    taps = [(i, j) for i in range(3) for j in range(3)]
    return sum(padded[:, i : i + num_frames, j : j + num_bins] * kernel[i, j, 0] for i, j in taps)


def _one_channel_backward(pads, saved, upstream):
    _, backward = jax.vjp(lambda x, kernel: _convolve(x, kernel, (1, 1), pads), *saved)
    return backward(upstream)


_convolve_one_channel.defvjp(
    lambda x, kernel, pads: (_convolve_one_channel(x, kernel, pads), (x, kernel)), _one_channel_backward
)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve_wide(x_BTFC: jax.Array, kernel: jax.Array, strides, pads) -> jax.Array:
    """``_convolve`` whose kernel's gradient is a matrix product per tap, on CPU three times faster."""
    return _convolve(x_BTFC, kernel, strides, pads)


def _wide_backward(strides, pads, saved, upstream_BTFO):
    x_BTFC, kernel = saved
    _, backward = jax.vjp(lambda x: _convolve(x, kernel, strides, pads), x_BTFC)
    padded = jnp.pad(x_BTFC, ((0, 0), *pads, (0, 0)))
    spans = [1 + (size - 1) * stride for size, stride in zip(upstream_BTFO.shape[1:3], strides, strict=True)]

    def tap(i, j):
        seen_BTFC = padded[:, i : i + spans[0] : strides[0], j : j + spans[1] : strides[1]]
        return jnp.einsum("btfc,btfo->co", seen_BTFC, upstream_BTFO, preferred_element_type=wide_type(kernel.dtype))

    taps = [tap(i, j) for i in range(3) for j in range(3)]
    return *backward(upstream_BTFO), jnp.stack(taps).reshape(kernel.shape).astype(kernel.dtype)


_convolve_wide.defvjp(
    lambda x, kernel, strides, pads: (_convolve(x, kernel, strides, pads), (x, kernel)), _wide_backward
)


class Conv2d(nnx.Module):
    """3x3 convolution with kernel (time, frequency, in, out), PyTorch's default start."""

    def __init__(self, width_in: int, width_out: int, strides, pad_freq: int, form: str, *, rngs: nnx.Rngs):
        init = uniform(1.0 / math.sqrt(9 * width_in))
        self.kernel = nnx.Param(init(rngs.params(), (3, 3, width_in, width_out)))
        self.bias = nnx.Param(init(rngs.params(), (width_out,)))
        self.strides, self.pads = strides, ((0, 0), (pad_freq, pad_freq))
        self.one_channel = form == "shift" and width_in == 1 and strides == (1, 1)
        self.wide = form == "shift" and width_in >= _WIDE

    def __call__(self, x_BTFC: jax.Array) -> jax.Array:
        kernel = self.kernel[...].astype(x_BTFC.dtype)
        if self.one_channel:
            y = _convolve_one_channel(x_BTFC, kernel, self.pads)
        elif self.wide:
            y = _convolve_wide(x_BTFC, kernel, self.strides, self.pads)
        else:
            y = _convolve(x_BTFC, kernel, self.strides, self.pads)
        return y + self.bias[...].astype(y.dtype)


class DepthwiseConv2d(nnx.Module):
    """7x7 depthwise convolution with kernel (time, frequency, channels)."""

    def __init__(self, width: int, form: str, *, rngs: nnx.Rngs):
        init = uniform(1.0 / 7.0)
        self.kernel = nnx.Param(init(rngs.params(), (7, 7, width)))
        self.bias = nnx.Param(init(rngs.params(), (width,)))
        self.form = form

    def __call__(self, x_BTFC: jax.Array) -> jax.Array:
        y = depthwise2d(x_BTFC, self.kernel[...].astype(x_BTFC.dtype), self.form)
        return y + self.bias[...].astype(y.dtype)


class BiasNorm(nnx.Module):
    """x * exp(log_scale) / rms(x - bias) over the last axis; x itself is not centred and there is no epsilon."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.log_scale = nnx.Param(jnp.ones(()))
        self.bias = nnx.Param(1e-4 * jax.random.normal(rngs.params(), (width,)))
        self.limit = ValueLimit(-1.5, 1.5)

    def __call__(self, x: jax.Array, draws: Draws | None = None) -> jax.Array:
        """Same shape and type; computed in float32."""
        # float32: a square in bfloat16 keeps 8 bits, and the reference has no epsilon that would hide what is lost
        x_wide = wide(x)
        power = jnp.mean(jnp.square(x_wide - self.bias[...]), axis=-1, keepdims=True)
        log_scale = self.limit(self.log_scale[...], draws)
        return (x_wide * (jax.lax.rsqrt(power) * jnp.exp(log_scale))).astype(x.dtype)


class ConvNeXt(nnx.Module):
    """Depthwise 7x7, three times wider pointwise pair with SwooshL, residual; no norm."""

    own_draws = DrawCounts(clips=1)

    def __init__(self, width: int, forms: Forms, *, rngs: nnx.Rngs, dtype):
        self.swoosh_form = forms.swoosh
        self.depthwise_conv = DepthwiseConv2d(width, forms.depthwise, rngs=rngs)
        self.pointwise_conv1 = linear(width, 3 * width, rngs=rngs, dtype=dtype)
        self.pointwise_conv2 = scaled_linear(3 * width, width, 0.01, rngs=rngs, dtype=dtype)
        self.hidden_balancer = Balancer(min_positive=0.3, max_positive=1.0, min_abs=0.75, max_abs=5.0)
        self.skip_rate = line(0.2, 0.015, 20000)
        self.out_balancer = Balancer(min_positive=0.4, max_positive=0.6, min_abs=1.0, max_abs=6.0)
        self.out_whiten = Whiten(5.0)

    def __call__(self, x_BTFC: jax.Array, draws: Draws | None = None) -> jax.Array:
        hidden = constrain(self.pointwise_conv1(self.depthwise_conv(x_BTFC)), "batch", "time", "bins", "hidden")
        hidden = self.hidden_balancer(hidden, draws)
        x_BTFC = x_BTFC + keep_clips(self.pointwise_conv2(swoosh_l(hidden, self.swoosh_form)), self.skip_rate, draws)
        return self.out_whiten(self.out_balancer(x_BTFC, draws), draws)


class Conv2dSubsampling(nnx.Module):
    """Three convolutions, one ConvNeXt block, a linear layer over channels and bins, BiasNorm."""

    def __init__(self, num_bins: int, width: int, channels, forms: Forms, *, rngs: nnx.Rngs, dtype):
        form, self.swoosh_form = forms.frontend, forms.swoosh
        self.conv0 = Conv2d(1, channels[0], (1, 1), 1, form, rngs=rngs)
        self.conv4 = Conv2d(channels[0], channels[1], (2, 2), 0, form, rngs=rngs)
        self.conv7 = Conv2d(channels[1], channels[2], (1, 2), 0, form, rngs=rngs)
        self.convnext = ConvNeXt(channels[2], forms, rngs=rngs, dtype=dtype)
        self.out = linear(channels[2] * (((num_bins - 1) // 2 - 1) // 2), width, rngs=rngs, dtype=dtype)
        self.out_norm = BiasNorm(width, rngs=rngs)
        self.dtype = dtype
        self.balancer0, self.balancer4, self.balancer7 = (Balancer(max_abs=limit) for limit in (1.0, 4.0, 4.0))
        self.out_whiten = Whiten(whitening_limit(4.0), grad_scale=0.02)
        self.dropout_rate = line(0.3, 0.1, 20000)
        self.own_draws = DrawCounts(channels=width)

    def __call__(self, mel_BTF: jax.Array, end_B: jax.Array, draws: Draws | None = None) -> jax.Array:
        """frames_BTD with T = (T - 7) // 2; frames from ``end_B`` on (counted after the front end) are hidden."""
        x = mel_BTF.astype(self.dtype)[..., None]
        x = self.conv0(x)  # no padding along time, here and below: that is where 7 frames are lost
        if draws is not None:  # its gradient is a sum over every frame and bin, and by far the largest
            x = scale_gradient(x, 0.2)
        x = swoosh_r(self.balancer0(x, draws), self.swoosh_form)
        x = swoosh_r(self.balancer4(self.conv4(x), draws), self.swoosh_form)
        x = swoosh_r(self.balancer7(self.conv7(x), draws), self.swoosh_form)
        # the convolutions so far see no frame beyond the clip; the depthwise one looks three frames ahead
        inside = jnp.arange(x.shape[1]) < end_B[:, None]
        x = self.convnext(jnp.where(inside[:, :, None, None], x, 0), draws)
        x = self.out_norm(self.out_whiten(self._flatten(x), draws), draws)
        return shared_dropout(x, self.dropout_rate, draws)

    def _flatten(self, x_BTFC: jax.Array) -> jax.Array:
        """The reference flattens channel-major; permuting the small kernel does that without moving the features."""
        num_bins, channels = x_BTFC.shape[2:]
        kernel = self.out.kernel[...].astype(x_BTFC.dtype).reshape(channels, num_bins, -1)
        return jnp.einsum("btfc,cfd->btd", x_BTFC, kernel) + self.out.bias[...].astype(x_BTFC.dtype)
