"""Settings between the reference's config.json and our dataclasses."""

import dataclasses
from typing import Any

from alp_jax.config.resolve import from_dict
from alp_jax.config.schema import DecoderConfig, ModelConfig, TextTowerConfig, ZipformerConfig
from alp_jax.core.errors import UserError

FRONTEND_CHANNELS = (8, 32, 128)  # constants of the reference, absent from its config.json


def zipformer_config(values: dict[str, Any], **changes: Any) -> ZipformerConfig:
    """The encoder of a reference config; absent keys take the reference's defaults, unknown ones are ignored."""
    return dataclasses.replace(_pick(ZipformerConfig, values), frontend_channels=FRONTEND_CHANNELS, **changes)


def clap_config(values: dict[str, Any]) -> tuple[ModelConfig, float]:
    """(model, temperature) of a reference config of kind ``clap``.

    Raises:
      UserError: a text tower with another activation than exact GELU.
    """
    text = values["text_encoder_config"]
    if text.get("hidden_act", "gelu") != "gelu":
        raise UserError(f"text_encoder_config.hidden_act={text['hidden_act']!r}: only 'gelu' is supported")
    model = ModelConfig(
        name="clap",
        encoder=zipformer_config(values["audio_encoder_config"]),
        text=_pick(TextTowerConfig, text),
        shared_emb_dim=values["shared_emb_dim"],
    )
    return model, float(values["temp"])


def caption_config(values: dict[str, Any], vocab_size: int) -> ModelConfig:
    """The model of a reference config of kind ``audio-caption``; the vocabulary is the tokenizer's there."""
    width = values["d_model"]
    decoder = {**values, "vocab_size": vocab_size, "dim_feedforward": values["dim_feedforward"] or 4 * width}
    encoder = zipformer_config(values["audio_encoder_config"])
    return ModelConfig(name="audio-caption", encoder=encoder, decoder=_pick(DecoderConfig, decoder))


def _pick(kind: type, values: dict[str, Any]) -> Any:
    known = {field.name for field in dataclasses.fields(kind)}
    return from_dict(kind, {key: value for key, value in values.items() if key in known}, kind.__name__)
