"""Conformer encoder: log-mel at 100 frames per second in, embeddings at 25 frames per second out.

Gulati et al., "Conformer: Convolution-augmented Transformer for Speech Recognition", Interspeech 2020; relative
positions as in Dai et al., "Transformer-XL", 2019. Different from the paper: the convolution module has a layer norm
where the paper has a batch norm, whose statistics would make a clip's training output depend on the other clips of its
batch, on padding and on the number of devices, and would need a running state beside the parameters.

Parameters: ``subsampling/conv1|conv2|out_proj``, ``blocks/{i}/feed_forward1|2/norm|in_proj|out_proj``,
``blocks/{i}/attention/norm|query|key|value|out_proj``, ``blocks/{i}/attention/positions/proj|bias``,
``blocks/{i}/convolution/norm|in_proj|depthwise_conv|mid_norm|out_proj``, ``blocks/{i}/norm``. The bias of ``query`` is
Transformer-XL's content bias u, that of ``positions`` its v - u; keys have no bias: softmax ignores it.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from alp_jax.config.schema import ConformerConfig
from alp_jax.core.errors import UserError
from alp_jax.models.encoder_spec import Cost, EncoderSpec, depthwise_cost, linear_cost, norm_cost, recomputed
from alp_jax.models.forms import resolve_form
from alp_jax.models.gradients import sigmoid
from alp_jax.models.prenorm import (
    NORM_EPS,
    FeedForward,
    check_padding,
    run_blocks,
    sinusoids,
    standardize,
)
from alp_jax.models.regularisers import DrawCounts, TrainInputs
from alp_jax.models.transformer import MASKED, dropout, layer_norm, linear, split_key, valid_mask
from alp_jax.models.zipformer.frontend import Conv2d, DepthwiseConv1d
from alp_jax.parallel.mesh import constrain


def check(config: ConformerConfig) -> None:
    """Raises UserError for sizes that cannot be built."""
    if config.num_heads < 1 or config.width % config.num_heads or config.width % 2:
        raise UserError(
            f"model.conformer.width={config.width} must be an even multiple of model.conformer.num_heads="
            f"{config.num_heads}"
        )
    if config.kernel % 2 == 0:
        raise UserError(f"model.conformer.kernel={config.kernel} must be an odd number")


def swish(x: jax.Array) -> jax.Array:
    """x * sigmoid(x), elementwise."""
    return x * sigmoid(x)


def by_source(scores_BHTN: jax.Array) -> jax.Array:
    """scores_BHTS from scores by offset: entry (t, s) is column T - 1 - t + s, offset s - t.

    Each row begins one column to the left of the row above it. With one column added, the flat index of entry (t, s) is
    (2T - 1) t + T - 1 + s; so the flat array from T - 1 on, cut into rows of 2T - 1, has it at (t, s).
    """
    *batch, length, offsets = scores_BHTN.shape
    flat = jnp.pad(scores_BHTN, ((0, 0), (0, 0), (0, 0), (0, 1))).reshape(*batch, -1)
    flat = flat[..., length - 1 : length - 1 + length * offsets]
    return flat.reshape(*batch, length, offsets)[..., :length]


class Subsampling(nnx.Module):
    """Two 3x3 convolutions of stride 2 with ReLU, then a linear layer over channels and bins; a quarter of the rate."""

    def __init__(self, num_bins: int, channels: int, width: int, form: str, *, rngs: nnx.Rngs, dtype):
        self.conv1 = Conv2d(1, channels, (2, 2), 1, form, rngs=rngs)
        self.conv2 = Conv2d(channels, channels, (2, 2), 1, form, rngs=rngs)
        self.out_proj = linear(-(-num_bins // 4) * channels, width, rngs=rngs, dtype=dtype)

    def __call__(self, mel_BTF: jax.Array, len_B: jax.Array) -> jax.Array:
        """frames_BTD, T / 4 rounded up; ``mel_BTF`` is zero from ``len_B`` on."""
        x = mel_BTF[..., None]
        for conv in (self.conv1, self.conv2):
            x = jax.nn.relu(conv(jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))))
            len_B = -(-len_B // 2)
            x = jnp.where(valid_mask(len_B, x.shape[1])[:, :, None, None], x, 0)
        return self.out_proj(x.reshape(*x.shape[:2], -1))


class RelativePositions(nnx.Module):
    """Projected sinusoids of the offsets, and the bias that is added to queries when they meet them."""

    def __init__(self, width: int, *, rngs: nnx.Rngs, dtype):
        self.proj = linear(width, width, rngs=rngs, dtype=dtype, use_bias=False)
        self.bias = nnx.Param(jnp.zeros((width,)))


class RelativeAttention(nnx.Module):
    """Norm, self-attention over content and relative position, projection, dropout; without the residual."""

    def __init__(self, config: ConformerConfig, *, rngs: nnx.Rngs, dtype):
        width = config.width
        self.num_heads, self.rate = config.num_heads, config.dropout
        self.norm = layer_norm(width, NORM_EPS, rngs=rngs, dtype=dtype)
        self.query = linear(width, width, rngs=rngs, dtype=dtype)
        self.key = linear(width, width, rngs=rngs, dtype=dtype, use_bias=False)
        self.value = linear(width, width, rngs=rngs, dtype=dtype)
        self.positions = RelativePositions(width, rngs=rngs, dtype=dtype)
        self.out_proj = linear(width, width, rngs=rngs, dtype=dtype)

    def __call__(self, x_BTD: jax.Array, pos_ND: jax.Array, valid_BT: jax.Array, key: jax.Array | None) -> jax.Array:
        def heads(x):
            return x.reshape(*x.shape[:-1], self.num_heads, -1)

        def by_head(x_BTD):
            return constrain(heads(x_BTD), "batch", "time", "heads", "each")

        weight_key, out_key = split_key(key, 2)
        x = self.norm(x_BTD)
        query_BTD, f32 = self.query(x), jnp.float32
        moved_BTD = query_BTD + self.positions.bias[...].astype(query_BTD.dtype)
        scores = jnp.einsum("bthd,bshd->bhts", by_head(query_BTD), by_head(self.key(x)), preferred_element_type=f32)
        offsets_NHD = heads(self.positions.proj(pos_ND))
        scores += by_source(jnp.einsum("bthd,nhd->bhtn", by_head(moved_BTD), offsets_NHD, preferred_element_type=f32))
        scores *= (x.shape[-1] // self.num_heads) ** -0.5
        weights = jax.nn.softmax(jnp.where(valid_BT[:, None, None, :], scores, MASKED), axis=-1)
        weights = dropout(weights, self.rate, weight_key).astype(x.dtype)
        mixed = jnp.einsum("bhts,bshd->bthd", weights, by_head(self.value(x)))
        return dropout(self.out_proj(mixed.reshape(x.shape)), self.rate, out_key)


class ConvolutionModule(nnx.Module):
    """Norm, gated linear unit, depthwise convolution, norm, swish, linear, dropout; without the residual."""

    def __init__(self, config: ConformerConfig, form: str, *, rngs: nnx.Rngs, dtype):
        width, taps = config.width, config.kernel
        self.rate = config.dropout
        self.norm = layer_norm(width, NORM_EPS, rngs=rngs, dtype=dtype)
        self.in_proj = linear(width, 2 * width, rngs=rngs, dtype=dtype)
        self.depthwise_conv = DepthwiseConv1d(width, taps, (taps // 2, taps // 2), form, taps**-0.5, rngs=rngs)
        self.mid_norm = layer_norm(width, NORM_EPS, rngs=rngs, dtype=dtype)
        self.out_proj = linear(width, width, rngs=rngs, dtype=dtype)

    def __call__(self, x_BTD: jax.Array, valid_BT: jax.Array, key: jax.Array | None) -> jax.Array:
        value, gate = jnp.split(self.in_proj(self.norm(x_BTD)), 2, axis=-1)
        gated = constrain(value * sigmoid(gate), "batch", "time", "hidden")
        inside = jnp.where(valid_BT[:, :, None], gated, 0)
        return dropout(self.out_proj(swish(self.mid_norm(self.depthwise_conv(inside)))), self.rate, key)


class Block(nnx.Module):
    """Half a feed-forward step, attention, convolution, half a feed-forward step, norm."""

    def __init__(self, config: ConformerConfig, form: str, *, rngs: nnx.Rngs, dtype):
        kw = {"rngs": rngs, "dtype": dtype}
        self.feed_forward1 = FeedForward(config.width, config.ff_dim, swish, config.dropout, **kw)
        self.attention = RelativeAttention(config, **kw)
        self.convolution = ConvolutionModule(config, form, **kw)
        self.feed_forward2 = FeedForward(config.width, config.ff_dim, swish, config.dropout, **kw)
        self.norm = layer_norm(config.width, NORM_EPS, **kw)

    def __call__(self, pos_ND: jax.Array, valid_BT: jax.Array, x_BTD: jax.Array, key: jax.Array | None) -> jax.Array:
        keys = split_key(key, 4)
        x_BTD = x_BTD + 0.5 * self.feed_forward1(x_BTD, keys[0])
        x_BTD = x_BTD + self.attention(x_BTD, pos_ND, valid_BT, keys[1])
        x_BTD = x_BTD + self.convolution(x_BTD, valid_BT, keys[2])
        x_BTD = x_BTD + 0.5 * self.feed_forward2(x_BTD, keys[3])
        return self.norm(x_BTD)


class Conformer(nnx.Module):
    """The encoder.

    Args:
      config: sizes.
      dtype: of activations; parameters, norm statistics and softmax are float32.
      depthwise: form of the depthwise convolutions, see ``alp_jax.models.forms``.
      remat: recompute the blocks in the backward pass instead of keeping their intermediate results.

    Attributes:
      draw_counts: empty, there is no whitening state.

    Raises:
      UserError: sizes that do not fit together.
    """

    def __init__(
        self,
        config: ConformerConfig,
        *,
        rngs: nnx.Rngs,
        dtype=jnp.float32,
        depthwise: str = "auto",
        remat: bool = False,
    ):
        check(config)
        form = resolve_form("depthwise", depthwise)
        kw = {"rngs": rngs, "dtype": dtype}
        self.config, self.dtype, self.remat, self.draw_counts = config, dtype, remat, DrawCounts()
        self.subsampling = Subsampling(config.feature_dim, config.subsampling_channels, config.width, form, **kw)
        self.blocks = nnx.List([Block(config, form, **kw) for _ in range(config.num_layers)])

    def __call__(
        self, mel_BTF: jax.Array, len_B: jax.Array, *, padding: str = "exact", train: TrainInputs | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Embeds a padded batch; a clip's output is that of the clip alone, whatever follows it.

        Args:
          mel_BTF: log-mel features at 100 frames per second.
          len_B: valid frames of each row, at least one; frames before the first and after the last read as zero.
          padding: ``exact``.
          train: its key draws the dropout; None is deterministic.

        Returns:
          frames_BTD with D = ``width``, arbitrary beyond the length, and their len_B: a quarter of the frames, rounded
          up.
        """
        check_padding(padding, "conformer")
        input_key, block_key = split_key(train and train.key, 2)
        mel_BTF = standardize(mel_BTF, len_B, self.config.mel_mean, self.config.mel_std).astype(self.dtype)
        x = dropout(self.subsampling(mel_BTF, len_B), self.config.dropout, input_key)
        length, len_B = x.shape[1], -(-len_B // 4)
        pos_ND = jnp.asarray(sinusoids(np.arange(1 - length, length), self.config.width), self.dtype)
        valid_BT = valid_mask(len_B, length)
        x = run_blocks((partial(block, pos_ND, valid_BT) for block in self.blocks), x, block_key, self.remat)
        return x, len_B


def conformer_cost(config: ConformerConfig, mel_frames: int) -> Cost:
    """Parameters and operations on a clip of ``mel_frames``."""
    width, channels, half_frames = config.width, config.subsampling_channels, -(-max(mel_frames, 1) // 2)
    frames, half_bins, bins = -(-half_frames // 2), -(-config.feature_dim // 2), -(-config.feature_dim // 4)
    total = linear_cost(half_frames * half_bins, 9, channels) + linear_cost(frames * bins, 9 * channels, channels)
    total += linear_cost(frames, bins * channels, width)
    feed_forward = (
        linear_cost(frames, width, config.ff_dim) + linear_cost(frames, config.ff_dim, width) + norm_cost(width)
    )
    attention = linear_cost(frames, width, width) * 3 + linear_cost(frames, width, width, bias=False) + norm_cost(width)
    attention += linear_cost(2 * frames - 1, width, width, bias=False) + Cost(width)
    attention += Cost(macs=frames * width * (2 * frames + 2 * frames - 1))  # content, values, every offset
    convolution = linear_cost(frames, width, 2 * width) + depthwise_cost(frames, config.kernel, width)
    convolution += linear_cost(frames, width, width) + norm_cost(width) * 2
    return total + (feed_forward * 2 + attention + convolution + norm_cost(width)) * config.num_layers


SPEC = EncoderSpec(
    kind="conformer",
    settings=ConformerConfig,
    section="conformer",
    make=lambda config, model, **kw: Conformer(
        config, depthwise=model.depthwise_form, remat="layers" in recomputed(model), **kw
    ),
    width=lambda config: config.width,
    frames=lambda config, mel_frames: -(-max(mel_frames, 1) // 4),
    cost=conformer_cost,
)
