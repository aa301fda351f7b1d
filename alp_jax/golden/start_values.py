"""The case of initial values: each tensor's distribution, by the mean, deviation and range of a sample."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from alp_jax.config.schema import DecoderConfig, ModelConfig, TextTowerConfig, ZipformerConfig
from alp_jax.config.schema.model import DECODER, TEXT
from alp_jax.golden.case import Case
from alp_jax.golden.compare import Line
from alp_jax.interop.formats.names import to_torch
from alp_jax.models.dual import AudioTextModel
from alp_jax.models.functional import functionalize

DEVIATIONS = 5.0  # standard errors of the difference of two samples; one tensor in a million fails by chance
_TEXT = TextTowerConfig(vocab_size=30522, num_hidden_layers=1)
_DECODER = DecoderConfig(vocab_size=50265, num_decoder_layers=1)
_SMALL = ZipformerConfig(num_encoder_layers=(1,) * 6)
# part of the table -> (objective, model, state dict kind, prefix to remove); text sides have only the listed layers
_PARTS = {
    "zipformer_default": ((TEXT,), ZipformerConfig(), "clap", "audio_encoder."),
    "clap_heads": ((TEXT,), _SMALL, "clap", ""),
    "clap_text_encoder": ((TEXT,), _SMALL, "clap", ""),
    "caption_decoder": ((DECODER,), _SMALL, "audio-caption", ""),
}


def check(case: Case) -> Iterator[Line]:
    """A line per tensor, in standard errors; and one per part for layers of a stack that do not start alike."""
    table = case.table()
    for part, expected in table.items():
        if part not in _PARTS:
            yield Line(case.name, f"{part} (unknown part)", math.inf, 0.0)
            continue
        objective, encoder, kind, prefix = _PARTS[part]
        config = ModelConfig(encoder=encoder, text=_TEXT, decoder=_DECODER)
        init, _ = functionalize(lambda rngs, c=config, o=objective: AudioTextModel(c, o, rngs=rngs))
        params = jax.jit(init)(jax.random.key(0))
        state = {name.removeprefix(prefix): value for name, value in to_torch(params, kind).items()}
        for name, row in expected.items():
            yield Line(case.name, f"{part}: {name}", standard_errors(state.get(name), row), DEVIATIONS)
        yield Line(case.name, f"{part}: layers that differ within a stack", _unlike(params["encoder"]), 0.0)


def standard_errors(value: np.ndarray | None, row: dict[str, Any]) -> float:
    """How far the statistics of ``value`` are from those of another sample of its size; infinite if they cannot agree.

    Args:
      row: ``shape``, ``mean``, ``std``, ``min`` and ``max`` of the other sample.
    """
    if value is None or list(value.shape) != row["shape"]:
        return math.inf
    value, std = np.asarray(value, np.float64).ravel(), row["std"]
    if std == 0:  # a constant, or a single number
        return 0.0 if np.all(value == row["min"]) else math.inf
    mean_error = std * math.sqrt(2 / value.size)
    range_ours, range_theirs = np.ptp(value) / std, (row["max"] - row["min"]) / std
    # bounded (uniform) values fill their range; the range of others grows with their number
    uniform = range_theirs < 2 * math.sqrt(3) * 1.02
    # variance of the difference of two sample deviations, times n / std^2: (kurtosis - 1) / 2, about 0.4 or 1
    std_error = std * math.sqrt((0.4 if uniform else 1.0) / value.size)
    range_error = 0.1 + 6 / value.size if uniform else 1.0
    return max(
        abs(value.mean() - row["mean"]) / mean_error,
        abs(value.std() - std) / std_error,
        abs(range_ours - range_theirs) / range_error,
    )


def _unlike(encoder: dict) -> float:
    """The number of parameters that differ between layers of one stack."""
    count = 0
    for stack in encoder["encoders"].values():
        first = jax.tree.leaves(stack["layers"]["0"])
        for layer in stack["layers"].values():
            count += sum(bool((a != b).any()) for a, b in zip(first, jax.tree.leaves(layer), strict=True))
    return float(count)
