"""Convolutional front end: 100 frames of log-mel per second become 50 embeddings per second."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from alp_jax.models.depthwise import depthwise2d
from alp_jax.models.layers import BiasNorm, scaled_linear, swoosh_l, swoosh_r, uniform
from alp_jax.models.transformer import linear

MIN_FRAMES = 9  # the shortest features that give one output frame


def output_length(num_frames):
    """Frames after the front end, of a whole number or an array of them."""
    return (num_frames - 7) // 2


class Conv2d(nnx.Module):
    """3x3 convolution with kernel (time, frequency, in, out), PyTorch's default start."""

    def __init__(self, width_in: int, width_out: int, strides, pad_freq: int, *, rngs: nnx.Rngs):
        init = uniform(1.0 / math.sqrt(9 * width_in))
        self.kernel = nnx.Param(init(rngs.params(), (3, 3, width_in, width_out)))
        self.bias = nnx.Param(init(rngs.params(), (width_out,)))
        self.strides, self.pad_freq = strides, pad_freq

    def __call__(self, x_BTFC: jax.Array) -> jax.Array:
        pads = [(0, 0), (self.pad_freq, self.pad_freq)]
        kernel = self.kernel[...].astype(x_BTFC.dtype)
        y = lax.conv_general_dilated(x_BTFC, kernel, self.strides, pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))
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

    def __init__(self, width: int, form: str, *, rngs: nnx.Rngs, dtype):
        self.depthwise_conv = DepthwiseConv2d(width, form, rngs=rngs)
        self.pointwise_conv1 = linear(width, 3 * width, rngs=rngs, dtype=dtype)
        self.pointwise_conv2 = scaled_linear(3 * width, width, 0.01, rngs=rngs, dtype=dtype)

    def __call__(self, x_BTFC: jax.Array) -> jax.Array:
        return x_BTFC + self.pointwise_conv2(swoosh_l(self.pointwise_conv1(self.depthwise_conv(x_BTFC))))


class Conv2dSubsampling(nnx.Module):
    """Three convolutions, one ConvNeXt block, a linear layer over channels and bins, BiasNorm."""

    def __init__(self, num_bins: int, width: int, channels, form: str, *, rngs: nnx.Rngs, dtype):
        self.conv0 = Conv2d(1, channels[0], (1, 1), 1, rngs=rngs)
        self.conv4 = Conv2d(channels[0], channels[1], (2, 2), 0, rngs=rngs)
        self.conv7 = Conv2d(channels[1], channels[2], (1, 2), 0, rngs=rngs)
        self.convnext = ConvNeXt(channels[2], form, rngs=rngs, dtype=dtype)
        self.out = linear(channels[2] * (((num_bins - 1) // 2 - 1) // 2), width, rngs=rngs, dtype=dtype)
        self.out_norm = BiasNorm(width, rngs=rngs)
        self.dtype = dtype

    def __call__(self, mel_BTF: jax.Array, end_B: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """frames_BTD with T = (T - 7) // 2; frames from ``end_B`` on (counted after the front end) are hidden."""
        x = mel_BTF.astype(self.dtype)[..., None]
        x = swoosh_r(self.conv0(x))
        x = swoosh_r(self.conv4(x))
        x = swoosh_r(self.conv7(x))
        # the convolutions so far see no frame beyond the clip; the depthwise one looks three frames ahead
        inside = jnp.arange(x.shape[1]) < end_B[:, None]
        x = self.convnext(jnp.where(inside[:, :, None, None], x, 0))
        return self.out_norm(self._flatten(x))

    def _flatten(self, x_BTFC: jax.Array) -> jax.Array:
        """The reference flattens channel-major; permuting the small kernel does that without moving the features."""
        num_bins, channels = x_BTFC.shape[2:]
        kernel = self.out.kernel[...].astype(x_BTFC.dtype).reshape(channels, num_bins, -1)
        return jnp.einsum("btfc,cfd->btd", x_BTFC, kernel) + self.out.bias[...].astype(x_BTFC.dtype)
