"""Parameters and floating point operations of a model, from its configuration alone.

FLOPs are floating point operations: a multiply-add counts as two; activations, norms and softmax are left out (together
about one per cent). Numbers are for one clip with one caption. A backward pass costs two forward passes.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax

from alp_jax.config.schema import DecoderConfig, ModelConfig, TextTowerConfig
from alp_jax.config.schema.model import DECODER, TAGGER, TEXT
from alp_jax.models.encoders import encoder_cost, encoder_frames, output_dim

FRAMES_PER_SECOND = 100


def parameters(tree: Any) -> int:
    """Number of values in a nested dictionary of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _mel_frames(seconds: float) -> int:
    return round(FRAMES_PER_SECOND * seconds)


def encoder_parameters(config: ModelConfig) -> int:
    """Parameters of the audio encoder."""
    return encoder_cost(config, 0).parameters


def encoder_flops(config: ModelConfig, seconds: float) -> float:
    """Forward FLOPs of the audio encoder on a clip of ``seconds``."""
    return 2.0 * encoder_cost(config, _mel_frames(seconds)).macs


def text_flops(config: TextTowerConfig, tokens: float) -> float:
    """Forward FLOPs of the text tower on one caption of ``tokens``, special tokens included."""
    width = config.hidden_size
    layer = 4 * width * width + 2 * width * config.intermediate_size + 2 * tokens * width
    return 2.0 * tokens * config.num_hidden_layers * layer


def decoder_flops(config: DecoderConfig, encoder_dim: int, frames: int, tokens: float) -> float:
    """Forward FLOPs of the caption decoder on one caption of ``tokens`` that looks at ``frames``."""
    width = config.d_model
    project = frames * encoder_dim * width if encoder_dim != width else 0
    per_token = 6 * width * width + 2 * width * config.dim_feedforward + 2 * (tokens + frames) * width
    layer = tokens * per_token + 2 * frames * width * width
    return 2.0 * (project + config.num_decoder_layers * layer + tokens * width * config.vocab_size)


def train_flops(config: ModelConfig, sides: tuple[str, ...], seconds: float, tokens: float) -> float:
    """Forward and backward FLOPs of training on one clip of ``seconds`` with a caption of ``tokens``, or averages.

    ``sides`` lists what the objective needs besides the encoder: TEXT, DECODER, TAGGER. The loss itself is left out:
    similarities between the clips of a batch are below one per cent up to batches of 65,536.
    """
    width, shared = output_dim(config), config.shared_emb_dim
    frames = encoder_frames(config, _mel_frames(seconds))
    forward = encoder_flops(config, seconds)
    if TAGGER in sides:
        forward += 2.0 * width * config.num_tags
    if TEXT in sides:
        heads = frames * (width + shared) * shared + (config.text.hidden_size + shared) * shared
        forward += text_flops(config.text, tokens) + 2.0 * heads
    if DECODER in sides:
        forward += decoder_flops(config.decoder, width, frames, tokens)
    return 3.0 * forward


def table(models: Mapping[str, ModelConfig], matches: Mapping[str, str], seconds: float) -> list[dict[str, Any]]:
    """A row per encoder, for one clip of ``seconds``.

    Returns:
      ``model``, ``kind``, ``parameters``, ``flops`` (forward), ``width`` and ``frames`` of its output; ``matches``, the
      model whose FLOPs it is built to equal, and the ``ratio`` of the two, both None without an entry in ``matches``.
    """
    rows = []
    for name, config in models.items():
        row = {"model": name, "kind": config.encoder_kind, "parameters": encoder_parameters(config)}
        row |= {"flops": encoder_flops(config, seconds), "width": output_dim(config)}
        row |= {"frames": encoder_frames(config, _mel_frames(seconds)), "matches": matches.get(name)}
        ratio = row["flops"] / encoder_flops(models[row["matches"]], seconds) if row["matches"] else None
        rows.append({**row, "ratio": ratio})
    return rows
