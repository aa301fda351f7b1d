"""Convolutional front end: 100 frames of log-mel per second become 50 embeddings per second."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from alp_jax.models.depthwise import depthwise2d
from alp_jax.models.forms import Forms
from alp_jax.models.gradients import scale_gradient
from alp_jax.models.layers import BiasNorm, scaled_linear, swoosh_l, swoosh_r, uniform
from alp_jax.models.precision import wide_type
from alp_jax.models.regularisers import Balancer, Whiten, whitening_limit
from alp_jax.models.schedule import line
from alp_jax.models.training import Sites, Training, keep_clips, shared_dropout
from alp_jax.models.transformer import linear
from alp_jax.parallel.activations import constrain

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


class ConvNeXt(nnx.Module):
    """Depthwise 7x7, three times wider pointwise pair with SwooshL, residual; no norm."""

    own_sites = Sites(clips=1)

    def __init__(self, width: int, forms: Forms, *, rngs: nnx.Rngs, dtype):
        self.swoosh_form = forms.swoosh
        self.depthwise_conv = DepthwiseConv2d(width, forms.depthwise, rngs=rngs)
        self.pointwise_conv1 = linear(width, 3 * width, rngs=rngs, dtype=dtype)
        self.pointwise_conv2 = scaled_linear(3 * width, width, 0.01, rngs=rngs, dtype=dtype)
        self.hidden_balancer = Balancer(min_positive=0.3, max_positive=1.0, min_abs=0.75, max_abs=5.0)
        self.skip_rate = line(0.2, 0.015, 20000)
        self.out_balancer = Balancer(min_positive=0.4, max_positive=0.6, min_abs=1.0, max_abs=6.0)
        self.out_whiten = Whiten(5.0)

    def __call__(self, x_BTFC: jax.Array, train: Training | None = None) -> jax.Array:
        hidden = constrain(self.pointwise_conv1(self.depthwise_conv(x_BTFC)), "batch", "time", "bins", "hidden")
        hidden = self.hidden_balancer(hidden, train)
        x_BTFC = x_BTFC + keep_clips(self.pointwise_conv2(swoosh_l(hidden, self.swoosh_form)), self.skip_rate, train)
        return self.out_whiten(self.out_balancer(x_BTFC, train), train)


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
        self.own_sites = Sites(channels=width)

    def __call__(self, mel_BTF: jax.Array, end_B: jax.Array, train: Training | None = None) -> jax.Array:
        """frames_BTD with T = (T - 7) // 2; frames from ``end_B`` on (counted after the front end) are hidden."""
        x = mel_BTF.astype(self.dtype)[..., None]
        x = self.conv0(x)
        if train is not None:  # its gradient is a sum over every frame and bin, and by far the largest
            x = scale_gradient(x, 0.2)
        x = swoosh_r(self.balancer0(x, train), self.swoosh_form)
        x = swoosh_r(self.balancer4(self.conv4(x), train), self.swoosh_form)
        x = swoosh_r(self.balancer7(self.conv7(x), train), self.swoosh_form)
        # the convolutions so far see no frame beyond the clip; the depthwise one looks three frames ahead
        inside = jnp.arange(x.shape[1]) < end_B[:, None]
        x = self.convnext(jnp.where(inside[:, :, None, None], x, 0), train)
        x = self.out_norm(self.out_whiten(self._flatten(x), train), train)
        return shared_dropout(x, self.dropout_rate, train)

    def _flatten(self, x_BTFC: jax.Array) -> jax.Array:
        """The reference flattens channel-major; permuting the small kernel does that without moving the features."""
        num_bins, channels = x_BTFC.shape[2:]
        kernel = self.out.kernel[...].astype(x_BTFC.dtype).reshape(channels, num_bins, -1)
        return jnp.einsum("btfc,cfd->btd", x_BTFC, kernel) + self.out.bias[...].astype(x_BTFC.dtype)
