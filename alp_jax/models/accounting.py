"""Parameters and floating point operations of a model, from its configuration alone.

A multiplication with its addition counts as two operations; activations, norms and softmax are left out (together about
a hundredth). Numbers are for one clip with one caption. A backward pass costs two forward passes.
"""

import math
from typing import Any

import jax

from alp_jax.config.schema import DecoderConfig, ModelConfig, TextTowerConfig, ZipformerConfig
from alp_jax.models.zipformer.encoder import per_stack
from alp_jax.models.zipformer.frontend import MIN_FRAMES, output_length

FRAMES_PER_SECOND = 100


def parameters(tree: Any) -> int:
    """Number of values in a nested dictionary of arrays or of their shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def zipformer_flops(config: ZipformerConfig, seconds: float) -> float:
    """Forward FLOPs of the encoder on a clip of ``seconds``."""
    mel_frames = max(round(FRAMES_PER_SECOND * seconds), MIN_FRAMES)
    num_frames = output_length(mel_frames)
    total = _frontend_macs(config, mel_frames)
    layers, factors = per_stack(config, "num_encoder_layers"), per_stack(config, "downsampling_factor")
    for i, (num_layers, factor) in enumerate(zip(layers, factors, strict=True)):
        total += num_layers * _layer_macs(config, i, -(-num_frames // factor))
    return 2.0 * total


def encoder_frames(config: ZipformerConfig, seconds: float) -> int:
    """Frames that the encoder gives for a clip of ``seconds``."""
    num_frames = output_length(max(round(FRAMES_PER_SECOND * seconds), MIN_FRAMES))
    return -(-num_frames // config.output_downsampling_factor)


def _frontend_macs(config: ZipformerConfig, mel_frames: int) -> int:
    first, second, third = config.frontend_channels
    half_frames, half_bins = (mel_frames - 5) // 2 + 1, (config.feature_dim - 1) // 2
    num_frames, num_bins = half_frames - 2, (half_bins - 1) // 2
    macs = 9 * (mel_frames - 2) * config.feature_dim * first
    macs += 9 * half_frames * half_bins * first * second
    cells = num_frames * num_bins
    return macs + cells * third * (9 * second + 49 + 6 * third + config.encoder_dim[0])


def _layer_macs(config: ZipformerConfig, stack: int, num_frames: int) -> int:
    width, pos_dim = config.encoder_dim[stack], config.pos_dim

    def size(name):
        return per_stack(config, name)[stack]

    heads, query, pos, value = size("num_heads"), size("query_head_dim"), size("pos_head_dim"), size("value_head_dim")
    hidden, ff, taps = 3 * width // 4, size("feedforward_dim"), size("cnn_module_kernel")
    if config.causal:
        taps += taps // 2 + 1
    feed_forward = 2 * width * (ff * 3 // 4 + ff + ff * 5 // 4)
    convolution = 2 * (3 * width * width + taps * width)
    projections = width * heads * (2 * query + pos) + 4 * width * heads * value + 4 * width * hidden
    across = heads * (query + pos + 2 * value) + hidden  # scores, positions, two mixes of values, the nonlinear one
    positions = (2 * num_frames - 1) * pos_dim * heads * pos
    return num_frames * (feed_forward + convolution + projections + num_frames * across) + positions


def text_flops(config: TextTowerConfig, tokens: int) -> float:
    """Forward FLOPs of the text tower on one caption of ``tokens``, special tokens included."""
    width = config.hidden_size
    layer = 4 * width * width + 2 * width * config.intermediate_size + 2 * tokens * width
    return 2.0 * tokens * config.num_hidden_layers * layer


def decoder_flops(config: DecoderConfig, encoder_dim: int, frames: int, tokens: int) -> float:
    """Forward FLOPs of the caption decoder on one caption of ``tokens`` that looks at ``frames``."""
    width = config.d_model
    project = frames * encoder_dim * width if encoder_dim != width else 0
    per_token = 6 * width * width + 2 * width * config.dim_feedforward + 2 * (tokens + frames) * width
    layer = tokens * per_token + 2 * frames * width * width
    return 2.0 * (project + config.num_decoder_layers * layer + tokens * width * config.vocab_size)


def train_flops(config: ModelConfig, objective: str, seconds: float, tokens: int) -> float:
    """Forward and backward FLOPs of training on one clip of ``seconds`` with a caption of ``tokens``.

    The similarities between clips of a batch are left out (below a hundredth up to batches of 65,536). ``objective``
    is ``contrastive`` or ``captioning``.
    """
    width, shared = max(config.encoder.encoder_dim), config.shared_emb_dim
    frames = encoder_frames(config.encoder, seconds)
    forward = zipformer_flops(config.encoder, seconds)
    if objective == "contrastive":
        heads = frames * (width + shared) * shared + (config.text.hidden_size + shared) * shared
        forward += text_flops(config.text, tokens) + 2.0 * heads
    else:
        forward += decoder_flops(config.decoder, width, frames, tokens)
    return 3.0 * forward
