"""Zipformer audio encoder: front end, modules along time, layers in stacks, and the encoder they make.

This file holds its spec: parameters and operations, the parts that a plan adds up, and its export.
"""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp

from alp_jax.config.schema import ModelConfig, ZipformerConfig
from alp_jax.models.encoder_spec import Cost, EncoderPart, EncoderSpec, depthwise_cost, linear_cost, recomputed
from alp_jax.models.forms import Forms
from alp_jax.models.regularisers import Draws
from alp_jax.models.transformer import recompute_if
from alp_jax.models.zipformer.encoder import Zipformer, per_stack
from alp_jax.models.zipformer.frontend import MIN_FRAMES, output_length
from alp_jax.models.zipformer.modules import FrameLengths


def zipformer_cost(config: ZipformerConfig, mel_frames: int) -> Cost:
    """Parameters and operations on a clip of ``mel_frames``; those below nine frames count as nine."""
    mel_frames = max(mel_frames, MIN_FRAMES)
    first, second, third = config.frontend_channels
    half_frames, half_bins = (mel_frames - 5) // 2 + 1, (config.feature_dim - 1) // 2
    num_frames, num_bins = output_length(mel_frames), (half_bins - 1) // 2
    cells, widths = num_frames * num_bins, config.encoder_dim
    total = linear_cost((mel_frames - 2) * config.feature_dim, 9, first)
    total += linear_cost(half_frames * half_bins, 9 * first, second) + linear_cost(cells, 9 * second, third)
    total += (
        depthwise_cost(cells, 49, third) + linear_cost(cells, third, 3 * third) + linear_cost(cells, 3 * third, third)
    )
    total += linear_cost(num_frames, num_bins * third, widths[0]) + Cost(1 + widths[0])
    layers, factors = per_stack(config, "num_encoder_layers"), per_stack(config, "downsampling_factor")
    for i, (num_layers, factor) in enumerate(zip(layers, factors, strict=True)):
        total += _zipformer_layer(config, i, -(-num_frames // factor)) * num_layers
        total += Cost(factor + widths[i] if factor > 1 else 0)
    return total + Cost(config.output_downsampling_factor)


def _zipformer_layer(config: ZipformerConfig, stack: int, frames: int) -> Cost:
    width = config.encoder_dim[stack]

    def size(name):
        return per_stack(config, name)[stack]

    heads, query, pos, value = size("num_heads"), size("query_head_dim"), size("pos_head_dim"), size("value_head_dim")
    hidden, ff, taps = 3 * width // 4, size("feedforward_dim"), size("cnn_module_kernel")
    total = linear_cost(frames, width, heads * (2 * query + pos))
    total += linear_cost(2 * frames - 1, config.pos_dim, heads * pos, bias=False)
    total += Cost(macs=frames * frames * (heads * (query + pos + 2 * value) + hidden))
    total += (linear_cost(frames, width, heads * value) + linear_cost(frames, heads * value, width)) * 2
    total += linear_cost(frames, width, 3 * hidden) + linear_cost(frames, hidden, width)
    for inner in (ff * 3 // 4, ff, ff * 5 // 4):
        total += linear_cost(frames, width, inner) + linear_cost(frames, inner, width)
    convolution = (
        linear_cost(frames, width, 2 * width) + depthwise_cost(frames, taps, width) + linear_cost(frames, width, width)
    )
    if config.causal:
        convolution += depthwise_cost(frames, taps // 2 + 1, width) + Cost(2 * width * taps)
    return total + convolution * 2 + Cost(4 * width + 1)  # three bypasses; scale and bias of the norm


def _parts(model: ModelConfig, mel_frames: int) -> Iterator[EncoderPart]:
    """The front end, and one layer of each stack for all of them; downsampling and outer bypasses are left out."""
    config, remat = model.encoder, recomputed(model)
    length = output_length(mel_frames)

    def front_end(apply: Callable, params, mel_BTF, len_B, draws: Draws | None) -> jax.Array:
        return recompute_if("front end" in remat, lambda *args: apply(*args, draws))(
            params, mel_BTF, output_length(len_B)
        )

    def layer(apply: Callable, params, x_BTD, len_B, draws: Draws | None, pos_ND) -> jax.Array:
        lengths = FrameLengths(jnp.arange(x_BTD.shape[1]) < len_B[:, None], len_B)

        def run(params, x_BTD, pos_ND):
            return apply(params, x_BTD, pos_ND, lengths, draws)

        return recompute_if("layers" in remat, run)(params, x_BTD, pos_ND)

    out = (length, config.encoder_dim[0])
    name = "waveform to the encoder's input"
    yield EncoderPart(name, 1, ("encoder_embed",), lambda encoder: encoder.encoder_embed, front_end, None, out)
    factors, counts = per_stack(config, "downsampling_factor"), per_stack(config, "num_encoder_layers")
    for i, (width, factor, times) in enumerate(zip(config.encoder_dim, factors, counts, strict=True)):
        frames = -(-length // factor)
        yield EncoderPart(
            f"a layer of stack {i + 1} of {len(counts)}",
            times,
            ("encoders", str(i), "layers", "0"),
            partial(lambda stack, encoder: encoder.encoders[stack].layers[0], i),
            layer,
            (frames, width),
            (frames, width),
            ((2 * frames - 1, config.pos_dim),),
        )


def _make(config: ZipformerConfig, model: ModelConfig, **kw) -> Zipformer:
    remat = recomputed(model)
    return Zipformer(config, forms=Forms.of(model), remat="layers" in remat, remat_front="front end" in remat, **kw)


SPEC = EncoderSpec(
    kind="zipformer",
    settings=ZipformerConfig,
    section="encoder",
    make=_make,
    width=lambda config: max(config.encoder_dim),
    frames=lambda config, mel_frames: (
        -(-output_length(max(mel_frames, MIN_FRAMES)) // config.output_downsampling_factor)
    ),
    cost=zipformer_cost,
    export="zipformer",
    parts=_parts,
)
