"""A stack of layers at one frame rate."""

import jax
import jax.numpy as jnp
from flax import nnx

from alp_jax.models.forms import Forms
from alp_jax.models.functional import ParamKeys
from alp_jax.models.schedule import Schedule, constant
from alp_jax.models.training import Training
from alp_jax.models.transformer import recompute_if
from alp_jax.models.zipformer.attention import relative_positions
from alp_jax.models.zipformer.frame_lengths import Extent
from alp_jax.models.zipformer.layer import Bypass, Note, ZipformerLayer, ignore
from alp_jax.parallel.activations import constrain


class Downsample(nnx.Module):
    """Weighted mean of every ``factor`` frames; frames from the clip's end on repeat its last one."""

    def __init__(self, factor: int):
        self.bias = nnx.Param(jnp.zeros((factor,)))

    def __call__(self, x_BTD: jax.Array, end_B: jax.Array) -> jax.Array:
        """frames_BTD with T divided by the factor, rounded up."""
        num_clips, length, width = x_BTD.shape
        factor = self.bias.shape[0]
        last_B1D = jnp.take_along_axis(x_BTD, jnp.maximum(end_B - 1, 0)[:, None, None], axis=1)
        padded = jnp.pad(x_BTD, ((0, 0), (0, -length % factor), (0, 0)))
        inside = jnp.arange(padded.shape[1]) < end_B[:, None]
        windows = jnp.where(inside[:, :, None], padded, last_B1D).reshape(num_clips, -1, factor, width)
        weights = jax.nn.softmax(self.bias[...])[:, None].astype(x_BTD.dtype)
        return jnp.sum(windows * weights, axis=2)


def upsample(x_BTD: jax.Array, factor: int, length: int) -> jax.Array:
    """Every frame ``factor`` times, cut to ``length``."""
    num_clips, short, width = x_BTD.shape
    repeated = jnp.broadcast_to(x_BTD[:, :, None], (num_clips, short, factor, width))
    return repeated.reshape(num_clips, short * factor, width)[:, :length]


class ZipformerStack(nnx.Module):
    """Downsample, layers, upsample and a bypass around it all; without a factor only the layers.

    The layers start identical, as in the reference; ``skip_rates`` holds the schedule of each.
    """

    def __init__(
        self,
        width,
        factor,
        pos_dim,
        sizes,
        causal,
        forms: Forms,
        skip_rates: tuple[Schedule, ...],
        *,
        remat,
        rngs,
        dtype,
    ):
        self.factor, self.pos_dim, self.remat = factor, pos_dim, remat
        self.pos_dropout_rate = constant(0.15)
        key = rngs.params()
        self.layers = nnx.List(
            ZipformerLayer(width, pos_dim, sizes, causal, forms, skip_rate, rngs=ParamKeys(key), dtype=dtype)
            for skip_rate in skip_rates
        )
        if factor > 1:
            self.downsample = Downsample(factor)
            self.out_combiner = Bypass(width)

    def __call__(
        self,
        x_BTD: jax.Array,
        extent: Extent,
        train: Training | None = None,
        feature_mask_B1D: jax.Array | None = None,
        note: Note = ignore,
    ) -> jax.Array:
        """Same shape as ``x_BTD``; ``extent`` is that of ``x_BTD``; the mask multiplies the input of every layer."""
        x = x_BTD
        if self.factor > 1:
            x = self.downsample(x, extent.end_B)
            extent = extent.downsampled(self.factor)
            note("downsampled", x)
        pos_ND = jnp.asarray(relative_positions(x.shape[1], self.pos_dim))
        note("pos_emb", pos_ND)
        if train is not None:
            rate = train.value(self.pos_dropout_rate)
            pos_ND = pos_ND * (train.draw_mask(pos_ND.shape) > rate) / (1.0 - rate)
        mask = 1 if feature_mask_B1D is None else feature_mask_B1D
        x = x * mask
        for i, layer in enumerate(self.layers):
            noted = ignore if note is ignore else lambda name, value, i=i: note(f"layer{i}.{name}", value)

            def run(x, pos_ND, layer=layer, noted=noted):
                return layer(x, pos_ND, extent, train, noted)

            x = constrain(recompute_if(self.remat, run)(x, pos_ND) * mask, "batch", "time", "width")
        if self.factor > 1:
            note("inner_out", x)
            x = self.out_combiner(x_BTD, upsample(x, self.factor, x_BTD.shape[1]), train)
        note("out", x)
        return x
