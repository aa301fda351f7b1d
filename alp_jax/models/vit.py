"""Audio spectrogram transformer: a ViT on patches of the log-mel.

Gong et al., "AST: Audio Spectrogram Transformer", Interspeech 2021; blocks as in Dosovitskiy et al. 2021 (norm first,
GELU). Different from AST:

- Patches do not overlap. A column (all patches of one time step) becomes ``patch_frames // frame_stride`` output
  frames: its patches side by side through one linear layer, the transposed patch embedding. With the defaults, 16x16
  patches give 25 frames per second, the rate of the other encoders.
- Positions are a learned vector per frequency plus a sinusoid of the time step, so any length works without
  interpolation.
- No class token; pooling is the caller's.

Parameters: ``patch_proj``, ``frequencies/embedding``, ``blocks/{i}/attention/norm|query|key|value|out_proj``,
``blocks/{i}/feed_forward/norm|in_proj|out_proj``, ``norm``, ``out_proj``. Keys have no bias: softmax ignores it.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from alp_jax.config.schema import ViTConfig
from alp_jax.core.errors import UserError
from alp_jax.models.encoder_spec import Cost, EncoderSpec, linear_cost, norm_cost, recomputed
from alp_jax.models.prenorm import (
    NORM_EPS,
    FeedForward,
    check_padding,
    run_blocks,
    sinusoids,
    standardize,
)
from alp_jax.models.regularisers import DrawCounts, TrainInputs
from alp_jax.models.transformer import attend, dropout, layer_norm, linear, split_key, valid_mask


def check(config: ViTConfig) -> None:
    """Raises UserError for sizes that cannot be built."""
    for name, divisor in (
        ("feature_dim", "patch_bins"),
        ("patch_frames", "frame_stride"),
        ("width", "num_heads"),
    ):
        value, by = getattr(config, name), getattr(config, divisor)
        if by < 1 or value < 1 or value % by:
            raise UserError(f"model.vit.{name}={value} must be a multiple of model.vit.{divisor}={by}")
    if config.width % 2:
        raise UserError(f"model.vit.width={config.width} must be even")


class Attention(nnx.Module):
    """Norm, self-attention, output projection, dropout; without the residual."""

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs, dtype):
        width = config.width
        self.num_heads, self.rate, self.weight_rate = config.num_heads, config.dropout, config.attention_dropout
        self.norm = layer_norm(width, NORM_EPS, rngs=rngs, dtype=dtype)
        self.query = linear(width, width, rngs=rngs, dtype=dtype)
        self.key = linear(width, width, rngs=rngs, dtype=dtype, use_bias=False)
        self.value = linear(width, width, rngs=rngs, dtype=dtype)
        self.out_proj = linear(width, width, rngs=rngs, dtype=dtype)

    def __call__(self, x_BLD: jax.Array, valid_BL: jax.Array, key: jax.Array | None = None) -> jax.Array:
        weight_key, out_key = split_key(key, 2)
        x = self.norm(x_BLD)
        mixed = attend(
            self.query(x),
            self.key(x),
            self.value(x),
            valid_BL[:, None, :],
            num_heads=self.num_heads,
            rate=self.weight_rate,
            key=weight_key,
        )
        return dropout(self.out_proj(mixed), self.rate, out_key)


class Block(nnx.Module):
    """Attention and feed-forward, each with a residual."""

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs, dtype):
        self.attention = Attention(config, rngs=rngs, dtype=dtype)
        self.feed_forward = FeedForward(
            config.width, config.mlp_dim, jax.nn.gelu, config.dropout, rngs=rngs, dtype=dtype
        )

    def __call__(self, valid_BL: jax.Array, x_BLD: jax.Array, key: jax.Array | None = None) -> jax.Array:
        attention_key, feed_forward_key = split_key(key, 2)
        x_BLD = x_BLD + self.attention(x_BLD, valid_BL, attention_key)
        return x_BLD + self.feed_forward(x_BLD, feed_forward_key)


class ViT(nnx.Module):
    """The encoder.

    Args:
      config: sizes.
      dtype: of activations; parameters, norm statistics and softmax are float32.
      remat: recompute the blocks in the backward pass instead of keeping their intermediate results.

    Attributes:
      draw_counts: empty, there is no whitening state.

    Raises:
      UserError: sizes that do not fit together.
    """

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs, dtype=jnp.float32, remat: bool = False):
        check(config)
        rows, width = config.feature_dim // config.patch_bins, config.width
        self.config, self.dtype, self.remat, self.draw_counts = config, dtype, remat, DrawCounts()
        self.patch_proj = linear(config.patch_frames * config.patch_bins, width, rngs=rngs, dtype=dtype)
        self.frequencies = nnx.Embed(rows, width, embedding_init=nnx.initializers.normal(0.02), rngs=rngs)
        self.blocks = nnx.List([Block(config, rngs=rngs, dtype=dtype) for _ in range(config.num_layers)])
        self.norm = layer_norm(width, NORM_EPS, rngs=rngs, dtype=dtype)
        frames = config.patch_frames // config.frame_stride
        self.out_proj = linear(rows * width, frames * width, rngs=rngs, dtype=dtype)

    def __call__(
        self, mel_BTF: jax.Array, len_B: jax.Array, *, padding: str = "exact", train: TrainInputs | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Embeds a padded batch; a clip's output is that of the clip alone, whatever follows it.

        Args:
          mel_BTF: log-mel features at 100 frames per second.
          len_B: valid frames of each row, at least one; the rest of a clip's last patch reads as zero.
          padding: ``exact``.
          train: its key draws the dropout; None is deterministic.

        Returns:
          frames_BTD with D = ``width``, arbitrary beyond the length, and their len_B: frames divided by
          ``frame_stride``, rounded up.
        """
        check_padding(padding, "vit")
        num_clips, length, num_bins = mel_BTF.shape
        patch_frames, patch_bins, width = self.config.patch_frames, self.config.patch_bins, self.config.width
        input_key, block_key = split_key(train and train.key, 2)
        mel_BTF = standardize(mel_BTF, len_B, self.config.mel_mean, self.config.mel_std).astype(self.dtype)
        mel_BTF = jnp.pad(mel_BTF, ((0, 0), (0, -length % patch_frames), (0, 0)))
        steps, rows = mel_BTF.shape[1] // patch_frames, num_bins // patch_bins
        patches = mel_BTF.reshape(num_clips, steps, patch_frames, rows, patch_bins).swapaxes(2, 3)
        x = self.patch_proj(patches.reshape(num_clips, steps, rows, -1))
        times_TD = jnp.asarray(sinusoids(np.arange(steps), width))
        x += (times_TD[:, None] + self.frequencies(jnp.arange(rows))).astype(self.dtype)
        x = dropout(x.reshape(num_clips, steps * rows, width), self.config.dropout, input_key)
        valid_BL = jnp.repeat(valid_mask(-(-len_B // patch_frames), steps), rows, axis=1)
        x = run_blocks((partial(block, valid_BL) for block in self.blocks), x, block_key, self.remat)
        frames_BTD = self.out_proj(self.norm(x).reshape(num_clips, steps, rows * width))
        return frames_BTD.reshape(num_clips, -1, width), -(-len_B // self.config.frame_stride)


def vit_cost(config: ViTConfig, mel_frames: int) -> Cost:
    """Parameters and operations on a clip of ``mel_frames``."""
    width, rows = config.width, config.feature_dim // config.patch_bins
    steps = -(-max(mel_frames, 1) // config.patch_frames)
    positions = steps * rows
    block = linear_cost(positions, width, width) * 3 + linear_cost(positions, width, width, bias=False)
    block += Cost(macs=2 * positions * positions * width)
    block += (
        linear_cost(positions, width, config.mlp_dim)
        + linear_cost(positions, config.mlp_dim, width)
        + norm_cost(width) * 2
    )
    total = linear_cost(positions, config.patch_frames * config.patch_bins, width) + Cost(rows * width)
    total += block * config.num_layers + norm_cost(width)
    return total + linear_cost(steps, rows * width, config.patch_frames // config.frame_stride * width)


SPEC = EncoderSpec(
    kind="vit",
    settings=ViTConfig,
    section="vit",
    make=lambda config, model, **kw: ViT(config, remat="layers" in recomputed(model), **kw),
    width=lambda config: config.width,
    frames=lambda config, mel_frames: -(-max(mel_frames, 1) // config.frame_stride),
    cost=vit_cost,
)
