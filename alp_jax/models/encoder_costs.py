"""Parameters and multiply-adds of every kind of encoder, from its configuration and the number of log-mel frames.

The sums walk through a model in the order in which it is built, so that parameters (exact) and operations come from one
description. Activations, norms, softmax, residuals and downsampling count as parameters but not as operations.
"""

from typing import NamedTuple

from alp_jax.config.schema import ConformerConfig, ModelConfig, ViTConfig, ZipformerConfig
from alp_jax.models.encoders import encoder_kind
from alp_jax.models.zipformer.encoder import per_stack
from alp_jax.models.zipformer.frontend import MIN_FRAMES, output_length


class Cost(NamedTuple):
    """Number of parameters; multiply-adds of a forward pass on one clip."""

    parameters: int = 0
    macs: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.parameters + other.parameters, self.macs + other.macs)

    def __mul__(self, times: int) -> "Cost":
        return Cost(self.parameters * times, self.macs * times)


def linear(places: int, width_in: int, width_out: int, *, bias: bool = True) -> Cost:
    """A linear layer at ``places`` frames, patches or cells; a convolution has its taps in ``width_in``."""
    return Cost((width_in + bias) * width_out, places * width_in * width_out)


def depthwise(places: int, taps: int, width: int) -> Cost:
    return Cost((taps + 1) * width, places * taps * width)


def layer_norm(width: int) -> Cost:
    return Cost(2 * width)


def zipformer_cost(config: ZipformerConfig, mel_frames: int) -> Cost:
    """See ``alp_jax/models/zipformer``; clips below nine frames count as nine."""
    mel_frames = max(mel_frames, MIN_FRAMES)
    first, second, third = config.frontend_channels
    half_frames, half_bins = (mel_frames - 5) // 2 + 1, (config.feature_dim - 1) // 2
    num_frames, num_bins = output_length(mel_frames), (half_bins - 1) // 2
    cells, widths = num_frames * num_bins, config.encoder_dim
    total = linear((mel_frames - 2) * config.feature_dim, 9, first)
    total += linear(half_frames * half_bins, 9 * first, second) + linear(cells, 9 * second, third)
    total += depthwise(cells, 49, third) + linear(cells, third, 3 * third) + linear(cells, 3 * third, third)
    total += linear(num_frames, num_bins * third, widths[0]) + Cost(1 + widths[0])
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
    total = linear(frames, width, heads * (2 * query + pos))
    total += linear(2 * frames - 1, config.pos_dim, heads * pos, bias=False)
    total += Cost(macs=frames * frames * (heads * (query + pos + 2 * value) + hidden))
    total += (linear(frames, width, heads * value) + linear(frames, heads * value, width)) * 2
    total += linear(frames, width, 3 * hidden) + linear(frames, hidden, width)
    for inner in (ff * 3 // 4, ff, ff * 5 // 4):
        total += linear(frames, width, inner) + linear(frames, inner, width)
    convolution = linear(frames, width, 2 * width) + depthwise(frames, taps, width) + linear(frames, width, width)
    if config.causal:
        convolution += depthwise(frames, taps // 2 + 1, width) + Cost(2 * width * taps)
    return total + convolution * 2 + Cost(4 * width + 1)  # three bypasses; scale and bias of the norm


def vit_cost(config: ViTConfig, mel_frames: int) -> Cost:
    """See ``alp_jax/models/vit.py``."""
    width, rows = config.width, config.feature_dim // config.patch_bins
    steps = -(-max(mel_frames, 1) // config.patch_frames)
    places = steps * rows
    block = linear(places, width, width) * 3 + linear(places, width, width, bias=False)
    block += Cost(macs=2 * places * places * width)
    block += linear(places, width, config.mlp_dim) + linear(places, config.mlp_dim, width) + layer_norm(width) * 2
    total = linear(places, config.patch_frames * config.patch_bins, width) + Cost(rows * width)
    total += block * config.num_layers + layer_norm(width)
    return total + linear(steps, rows * width, config.patch_frames // config.frame_stride * width)


def conformer_cost(config: ConformerConfig, mel_frames: int) -> Cost:
    """See ``alp_jax/models/conformer.py``."""
    width, channels, half_frames = config.width, config.subsampling_channels, -(-max(mel_frames, 1) // 2)
    frames, half_bins, bins = -(-half_frames // 2), -(-config.feature_dim // 2), -(-config.feature_dim // 4)
    total = linear(half_frames * half_bins, 9, channels) + linear(frames * bins, 9 * channels, channels)
    total += linear(frames, bins * channels, width)
    feed_forward = linear(frames, width, config.ff_dim) + linear(frames, config.ff_dim, width) + layer_norm(width)
    attention = linear(frames, width, width) * 3 + linear(frames, width, width, bias=False) + layer_norm(width)
    attention += linear(2 * frames - 1, width, width, bias=False) + Cost(width)
    attention += Cost(macs=frames * width * (2 * frames + 2 * frames - 1))  # content, values, every offset
    convolution = linear(frames, width, 2 * width) + depthwise(frames, config.kernel, width)
    convolution += linear(frames, width, width) + layer_norm(width) * 2
    return total + (feed_forward * 2 + attention + convolution + layer_norm(width)) * config.num_layers


def encoder_cost(config: ModelConfig, mel_frames: int) -> Cost:
    """Of the encoder that ``config`` names."""
    kind = encoder_kind(config)
    if kind == "zipformer":
        return zipformer_cost(config.encoder, mel_frames)
    return conformer_cost(config.conformer, mel_frames) if kind == "conformer" else vit_cost(config.vit, mel_frames)


def encoder_frames(config: ModelConfig, mel_frames: int) -> int:
    """Frames that the encoder gives."""
    kind = encoder_kind(config)
    if kind == "zipformer":
        return -(-output_length(max(mel_frames, MIN_FRAMES)) // config.encoder.output_downsampling_factor)
    return -(-max(mel_frames, 1) // (4 if kind == "conformer" else config.vit.frame_stride))
