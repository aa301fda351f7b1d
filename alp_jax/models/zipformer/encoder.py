"""Zipformer encoder: log-mel at 100 frames per second in, embeddings at 25 frames per second out.

Yao et al., "Zipformer: A faster and better encoder for automatic speech recognition", ICLR 2024; forward equal to the
reference implementation. The tree of parameter names, {i} a stack and {j} a layer counted from 0:

    encoder_embed/conv0|conv4|conv7/kernel (3, 3, in, out), bias
    encoder_embed/convnext/depthwise_conv/kernel (7, 7, channels), bias
    encoder_embed/convnext/pointwise_conv1|pointwise_conv2/kernel (in, out), bias
    encoder_embed/out/kernel (channels * bins, width), bias
    encoder_embed/out_norm/log_scale (), bias
    encoders/{i}/downsample/bias (factor,)                       stacks with a factor above 1
    encoders/{i}/out_combiner/bypass_scale                       stacks with a factor above 1
    encoders/{i}/layers/{j}/bypass|bypass_mid/bypass_scale
    encoders/{i}/layers/{j}/bypass_scale                         without influence, as in the reference
    encoders/{i}/layers/{j}/self_attn_weights/in_proj/kernel, bias
    encoders/{i}/layers/{j}/self_attn_weights/linear_pos/kernel
    encoders/{i}/layers/{j}/self_attn1|self_attn2|nonlin_attention/in_proj|out_proj/kernel, bias
    encoders/{i}/layers/{j}/feed_forward1|2|3/in_proj|out_proj/kernel, bias
    encoders/{i}/layers/{j}/conv_module1|2/in_proj|out_proj/kernel, bias
    encoders/{i}/layers/{j}/conv_module1|2/depthwise_conv/kernel (taps, channels), bias              causal=False
    encoders/{i}/layers/{j}/conv_module1|2/depthwise_conv/causal_conv|chunkwise_conv/kernel, bias    causal=True
    encoders/{i}/layers/{j}/conv_module1|2/depthwise_conv/chunkwise_conv_scale (2, channels, taps)   causal=True
    encoders/{i}/layers/{j}/norm/log_scale (), bias
    downsample_output/bias (output_downsampling_factor,)

The reference's name has ``encoder.`` before ``encoders`` and ``downsample_output``, ``encoders.{i}.encoder.layers``
where the factor is above 1, ``conv.0|4|7`` for ``conv0|4|7`` and ``weight`` for ``kernel``.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from alp_jax.config.schema import ZipformerConfig
from alp_jax.core.errors import UserError
from alp_jax.core.names import choose
from alp_jax.models.forms import AUTO, Forms
from alp_jax.models.regularisers import DrawCounts, Draws, Schedule, TrainInputs, count_draws
from alp_jax.models.transformer import recompute_if
from alp_jax.models.zipformer.frontend import MIN_FRAMES, Conv2dSubsampling, output_length
from alp_jax.models.zipformer.layer import Downsample, Note, ZipformerStack, ignore
from alp_jax.models.zipformer.modules import FrameLengths, chunk_mask

PADDINGS = ("exact", "reference")
PER_STACK = ("num_heads", "query_head_dim", "pos_head_dim", "value_head_dim", "feedforward_dim", "cnn_module_kernel")


def per_stack(config: ZipformerConfig, name: str) -> tuple[int, ...]:
    """The setting ``name`` of every stack; a single value applies to all.

    Raises:
      UserError: neither one value nor one per stack.
    """
    values, num_stacks = getattr(config, name), len(config.encoder_dim)
    if len(values) not in (1, num_stacks):
        raise UserError(f"model.encoder.{name} has {len(values)} values for {num_stacks} stacks of encoder_dim")
    return values * num_stacks if len(values) == 1 else values


def check(config: ZipformerConfig) -> None:
    """Raises UserError for sizes that cannot be built."""
    factors, taps = per_stack(config, "downsampling_factor"), per_stack(config, "cnn_module_kernel")
    if any(k % 2 == 0 for k in taps):
        raise UserError(f"model.encoder.cnn_module_kernel={taps} must be odd numbers")
    if config.feature_dim < 7:
        raise UserError(f"model.encoder.feature_dim={config.feature_dim} must be at least 7")
    if config.pos_dim % 2:
        raise UserError(f"model.encoder.pos_dim={config.pos_dim} must be even")
    if not config.causal:
        return
    if not config.chunk_size or not config.left_context_frames:
        raise UserError("model.encoder.chunk_size and left_context_frames need a value each")
    needed = max(k // 2 * factor for k, factor in zip(taps, factors, strict=True))
    for chunk in config.chunk_size:
        if chunk > 0 and any(chunk % factor for factor in factors):
            raise UserError(
                f"model.encoder.chunk_size={chunk} must be a multiple of every downsampling_factor {factors}"
            )
        for left in config.left_context_frames:
            if chunk > 0 and left >= 0 and max(left // chunk, 1) * chunk < needed:
                raise UserError(f"model.encoder.left_context_frames={left} must reach back {needed} frames or more")


def layer_skip_rates(config: ZipformerConfig) -> list[tuple[Schedule, ...]]:
    """Per stack and layer: 0.5 until the layer's turn in the warm-up, lowest first, then a few percent."""
    counts, factors = per_stack(config, "num_encoder_layers"), per_stack(config, "downsampling_factor")
    turn = config.warmup_batches / (len(counts) + 1)
    rates = []
    for i, (count, factor) in enumerate(zip(counts, factors, strict=True)):
        begins = [turn * (i + 1) + turn * j / count for j in range(count)]
        rates.append(tuple(Schedule(((b, 0.5), (b + turn / count, 0.035 * factor**0.5))) for b in begins))
    return rates


def change_width(x_BTD: jax.Array, width: int) -> jax.Array:
    """The first ``width`` channels, zeros where there are fewer."""
    have = x_BTD.shape[-1]
    return x_BTD[..., :width] if have >= width else jnp.pad(x_BTD, ((0, 0), (0, 0), (0, width - have)))


def feature_masks(
    widths: tuple[int, ...], unmasked_widths: tuple[int, ...], rate: float, draws: Draws, dtype
) -> list[jax.Array]:
    """mask_B1D per stack: for some clips, the channels beyond the unmasked ones, or the upper half of those, are 0.

    All stacks mask the same clips, so that none makes up for what another one lacks.
    """
    # In this order: clips take their values from one pool, as the golden vectors of training hand them out.
    lower_B1 = draws.draw_clips()[:, None] > rate
    upper_B1 = lower_B1 & (draws.draw_clips()[:, None] > rate)
    masks = []
    for width, unmasked in zip(widths, unmasked_widths, strict=True):
        channel = jnp.arange(width)
        kept = jnp.where(channel < unmasked + (width - unmasked) // 2, lower_B1, upper_B1)
        masks.append(((channel < unmasked) | kept).astype(dtype)[:, None, :])
    return masks


class Zipformer(nnx.Module):
    """The encoder.

    Args:
      config: sizes; the default is Zipformer-M.
      dtype: of activations; parameters, Swoosh, softmax and norms are float32.
      forms: of the slow parts.
      remat: recompute the layers in the backward pass instead of keeping their intermediate results.
      remat_front: likewise the front end.

    Attributes:
      draw_counts: what a training forward pass draws; ``draw_counts.whitenings`` is the size of the whitening state.

    Raises:
      UserError: sizes that do not fit together.
    """

    def __init__(
        self,
        config: ZipformerConfig,
        *,
        rngs: nnx.Rngs,
        dtype=jnp.float32,
        forms: Forms = AUTO,
        remat: bool = False,
        remat_front: bool = False,
    ):
        check(config)
        forms = forms.resolved()
        widths = config.encoder_dim
        sizes = {name: per_stack(config, name) for name in PER_STACK}
        self.config, self.dtype, self.remat_front = config, dtype, remat_front
        self.unmasked_dim = per_stack(config, "encoder_unmasked_dim")
        self.encoder_embed = Conv2dSubsampling(
            config.feature_dim, widths[0], config.frontend_channels, forms, rngs=rngs, dtype=dtype
        )
        self.encoders = nnx.List(
            ZipformerStack(
                width,
                factor,
                config.pos_dim,
                {name: values[i] for name, values in sizes.items()},
                config.causal,
                forms,
                skip_rates,
                remat=remat,
                rngs=rngs,
                dtype=dtype,
            )
            for i, (width, factor, skip_rates) in enumerate(
                zip(widths, per_stack(config, "downsampling_factor"), layer_skip_rates(config), strict=True)
            )
        )
        self.downsample_output = Downsample(config.output_downsampling_factor)
        self.feature_mask_rate = 0.125
        self.random_chunks = config.causal and max(len(config.chunk_size), len(config.left_context_frames)) > 1
        self.own_draws = DrawCounts(clips=2, scalars=2 if self.random_chunks else 0)
        self.draw_counts = count_draws(self)

    def __call__(
        self,
        mel_BTF: jax.Array,
        len_B: jax.Array,
        *,
        padding: str = "exact",
        train: TrainInputs | Draws | None = None,
        note: Note = ignore,
    ) -> tuple[jax.Array, jax.Array]:
        """Embeds a padded batch.

        Args:
          mel_BTF: log-mel features at 100 frames per second.
          len_B: valid frames of each row.
          padding: ``exact``: a clip's output is that of the clip alone, whatever follows it. A clip below nine frames
            counts as nine, its last frame repeated. ``reference``: as the reference computes it, where padding leaks
            into a clip's frames; T must be the longest length and at least 9.
          train: randomness and state of a training step, or the draws made from them; None is deterministic and
            without regularisers.
          note: called with the name and value of every intermediate result.

        Returns:
          frames_BTD with D = max(encoder_dim), arbitrary beyond the length, and their len_B:
          (T - 7) // 2 frames divided by ``output_downsampling_factor``, rounded up.
        """
        if padding == "exact":
            mel_BTF, len_B = _at_least_min_frames(mel_BTF, len_B)
            end_B = output_length(len_B)
        else:
            choose(padding, PADDINGS, "padding")
            if mel_BTF.shape[1] < MIN_FRAMES:
                raise UserError(f"reference padding needs {MIN_FRAMES} frames or more, not {mel_BTF.shape[1]}")
            end_B = jnp.full_like(len_B, output_length(mel_BTF.shape[1]))
        draws = Draws.sample(train, self.draw_counts, len(len_B)) if isinstance(train, TrainInputs) else train
        # Draws come from shared pools in the order of the calls below: chunks, front end, feature masks, stacks. In
        # another order every module gets another one's, and the golden vectors of training no longer match.
        chunking = self._chunking(draws)
        embed = partial(self.encoder_embed, draws=draws)
        x = recompute_if(self.remat_front, embed)(mel_BTF, end_B)
        len_B = output_length(len_B)
        note("encoder_embed", x)
        note("encoder_embed_lens", len_B)
        lengths = self._frame_lengths(x.shape[1], len_B, end_B, *chunking)
        masks = [None] * len(self.encoders)
        if draws is not None:
            masks = feature_masks(self.config.encoder_dim, self.unmasked_dim, self.feature_mask_rate, draws, self.dtype)
        outputs = []
        for i, stack in enumerate(self.encoders):
            x = change_width(x, self.config.encoder_dim[i])
            noted = ignore if note is ignore else lambda name, value, i=i: note(f"stack{i}.{name}", value)
            x = stack(x, lengths, draws, masks[i], noted)
            outputs.append(x)
        # A module that draws less than it counted would pass unnoticed, and shift the draws of all that follow it.
        if draws is not None and draws.remaining() != DrawCounts():
            raise AssertionError(f"the encoder drew {draws.remaining()} fewer random values than it counted")
        return self._finish(outputs, len_B, end_B, note)

    def taps(self, mel_BTF: jax.Array, len_B: jax.Array, *, padding: str = "exact") -> dict[str, jax.Array]:
        """Every intermediate result by name, for inspection; batch first, attention weights (B, heads, T, T).

        Names are ``encoder_embed``, ``encoder_embed_lens``, ``stack{i}.downsampled|pos_emb|inner_out|out``,
        ``stack{i}.layer{j}.in|out|<module>``, ``encoder_out_full`` (stacks, B, T, D), ``encoder_out``,
        ``encoder_out_lens``.
        """
        outputs = {}
        self(mel_BTF, len_B, padding=padding, note=outputs.__setitem__)
        return outputs

    def _chunking(self, draws: Draws | None) -> tuple[tuple[int, ...], jax.Array | None, int | jax.Array]:
        """Chunk sizes, which one applies, left context: a training step draws from those configured, else the first."""
        chunks, lefts = self.config.chunk_size, self.config.left_context_frames
        if draws is None or not self.random_chunks:
            return chunks[:1], None, lefts[0]
        # The minimum is for a draw so close to 1 that its product with the size is rounded up to the size.
        choice, left = (
            jnp.minimum((draws.draw() * size).astype(jnp.int32), size - 1) for size in (len(chunks), len(lefts))
        )
        return chunks, choice, jnp.array(lefts)[left]

    def _frame_lengths(
        self, length: int, len_B: jax.Array, end_B: jax.Array, chunks, choice, left_frames
    ) -> FrameLengths:
        valid_BT = jnp.arange(length) < len_B[:, None]
        if not self.config.causal:
            return FrameLengths(valid_BT, end_B)
        lengths = FrameLengths(valid_BT, end_B, chunks=chunks, choice=choice)
        if chunks == (-1,):
            return lengths
        return lengths._replace(allowed_TT=chunk_mask(length, lengths.chunk(length), left_frames))

    def _finish(self, outputs: list[jax.Array], len_B, end_B, note: Note) -> tuple[jax.Array, jax.Array]:
        """Channels of the last stack, then those that only earlier and wider stacks have, at the output rate."""
        widest = max(self.config.encoder_dim)
        pieces = [outputs[-1]]
        covered = outputs[-1].shape[-1]
        for x in reversed(outputs):
            if x.shape[-1] > covered:
                pieces.append(x[..., covered:])
                covered = x.shape[-1]
        frames_BTD = self.downsample_output(jnp.concatenate(pieces, axis=-1), end_B)
        out_len_B = -(-len_B // self.config.output_downsampling_factor)
        if note is not ignore:
            full = [self.downsample_output(change_width(x, widest), end_B) for x in outputs]
            note("encoder_out_full", jnp.stack(full))
            note("encoder_out", frames_BTD)
            note("encoder_out_lens", out_len_B)
        return frames_BTD, out_len_B


def _at_least_min_frames(mel_BTF: jax.Array, len_B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Repeats the last frame of clips that are too short for the front end, so that each gives one frame."""
    num_frames = mel_BTF.shape[1]
    mel_BTF = jnp.pad(mel_BTF, ((0, 0), (0, max(MIN_FRAMES - num_frames, 0)), (0, 0)))
    head, tail = mel_BTF[:, :MIN_FRAMES], mel_BTF[:, MIN_FRAMES:]
    last_B1F = jnp.take_along_axis(head, jnp.clip(len_B - 1, 0, MIN_FRAMES - 1)[:, None, None], axis=1)
    inside = jnp.arange(MIN_FRAMES) < len_B[:, None]
    head = jnp.where(inside[:, :, None], head, last_B1F)
    return jnp.concatenate([head, tail], axis=1), jnp.maximum(len_B, MIN_FRAMES)
