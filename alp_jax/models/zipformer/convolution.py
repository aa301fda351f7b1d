"""Convolution module: a gated depthwise convolution along time, symmetric or causal in chunks."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx

from alp_jax.models.depthwise import depthwise1d
from alp_jax.models.forms import Forms
from alp_jax.models.layers import scaled_linear, sigmoid, swoosh_r, uniform
from alp_jax.models.regularisers import Balancer, Whiten, whitening_limit
from alp_jax.models.schedule import line
from alp_jax.models.training import Training
from alp_jax.models.transformer import linear
from alp_jax.models.zipformer.frame_lengths import Extent
from alp_jax.parallel.activations import constrain


class DepthwiseConv1d(nnx.Module):
    """Kernel (taps, channels) with ``pad`` zeros before and after."""

    def __init__(self, width: int, taps: int, pad: tuple[int, int], form: str, bias_bound: float, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(uniform(1.0 / math.sqrt(taps))(rngs.params(), (taps, width)))
        self.bias = nnx.Param(uniform(bias_bound)(rngs.params(), (width,)))
        self.pad, self.form = pad, form

    def __call__(self, x_BTC: jax.Array, extent: Extent | None = None) -> jax.Array:
        y = depthwise1d(x_BTC, self.kernel[...].astype(x_BTC.dtype), self.pad, self.form)
        return y + self.bias[...].astype(y.dtype)


class ChunkCausalDepthwiseConv1d(nnx.Module):
    """A causal convolution of half the taps, plus one that sees only its chunk, corrected near the chunk's edges."""

    def __init__(self, width: int, taps: int, form: str, *, rngs: nnx.Rngs):
        half = taps // 2
        self.causal_conv = DepthwiseConv1d(width, half + 1, (half, 0), form, 0.1, rngs=rngs)
        self.chunkwise_conv = DepthwiseConv1d(width, taps, (half, half), form, 1.0 / math.sqrt(taps), rngs=rngs)
        self.chunkwise_conv_scale = nnx.Param(jnp.zeros((2, width, taps)))  # left edge, right edge

    def __call__(self, x_BTC: jax.Array, extent: Extent) -> jax.Array:
        length = x_BTC.shape[1]
        by_size = [functools.partial(self._inside, min(c, length) if c > 0 else length) for c in extent.chunks]
        inside_BTC = by_size[0](x_BTC) if extent.choice is None else jax.lax.switch(extent.choice, by_size, x_BTC)
        return self.causal_conv(x_BTC) + inside_BTC * self._scale(length, extent).astype(x_BTC.dtype)

    def _inside(self, window: int, x_BTC: jax.Array) -> jax.Array:
        """The convolution of every chunk of ``window`` frames by itself."""
        num_clips, length, width = x_BTC.shape
        chunks = jnp.pad(x_BTC, ((0, 0), (0, -length % window), (0, 0))).reshape(-1, window, width)
        return self.chunkwise_conv(chunks).reshape(num_clips, -1, width)[:, :length]

    def _scale(self, length: int, extent: Extent) -> jax.Array:
        """scale_BTC: 1 plus the corrections at the edges of each clip's own chunks."""
        left_KC, right_KC = jnp.swapaxes(self.chunkwise_conv_scale[...], 1, 2)
        taps, end_B1 = left_KC.shape[0], extent.end_B[:, None]
        chunk_B1 = jnp.minimum(end_B1, extent.chunk(length))
        from_left_BT = jnp.arange(length) % chunk_B1
        from_right_BT = from_left_BT - chunk_B1 + taps

        def corrections(table_KC, index_BT):
            inside = (index_BT >= 0) & (index_BT < taps)
            return jnp.where(inside[..., None], table_KC[jnp.clip(index_BT, 0, taps - 1)], 0.0)

        return 1.0 + corrections(left_KC, from_left_BT) + corrections(right_KC, from_right_BT)


class ConvolutionModule(nnx.Module):
    """Gate, zero the padding, depthwise convolution, SwooshR, linear."""

    def __init__(self, width: int, taps: int, causal: bool, forms: Forms, *, rngs: nnx.Rngs, dtype):
        form, self.swoosh_form = forms.depthwise, forms.swoosh
        self.in_proj = linear(width, 2 * width, rngs=rngs, dtype=dtype)
        self.depthwise_conv = (
            ChunkCausalDepthwiseConv1d(width, taps, form, rngs=rngs)
            if causal
            else DepthwiseConv1d(width, taps, (taps // 2, taps // 2), form, 1.0 / math.sqrt(taps), rngs=rngs)
        )
        self.out_proj = scaled_linear(width, width, 0.05, rngs=rngs, dtype=dtype)
        self.balancer1 = Balancer(
            min_positive=line(0.05, 0.025, 8000), max_positive=1.0, min_abs=1.5, max_abs=line(5.0, 10.0, 8000)
        )
        self.balancer2 = Balancer(
            min_positive=line(0.1, 0.05, 8000), max_positive=1.0, min_abs=line(0.2, 0.5, 20000), max_abs=10.0
        )
        self.whiten = Whiten(whitening_limit(7.5))

    def __call__(self, x_BTD: jax.Array, extent: Extent, train: Training | None = None) -> jax.Array:
        parts = jnp.split(self.in_proj(x_BTD), 2, axis=-1)
        value, gate = (constrain(part, "batch", "time", "hidden") for part in parts)
        gate = sigmoid(self.balancer1(gate, train))
        mixed = self.depthwise_conv(jnp.where(extent.valid_BT[:, :, None], value * gate, 0), extent)
        return self.out_proj(swoosh_r(self.whiten(self.balancer2(mixed, train), train), self.swoosh_form))
