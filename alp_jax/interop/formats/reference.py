"""Converts settings between the reference's config.json and our dataclasses, both ways."""

import dataclasses
import math
from typing import Any

import numpy as np

from alp_jax.config import ConfigError, to_dict
from alp_jax.config.resolve import from_dict
from alp_jax.config.schema import DecoderConfig, ModelConfig, ObjectiveConfig, TextTowerConfig, ZipformerConfig
from alp_jax.core.errors import UserError
from alp_jax.core.names import choose
from alp_jax.models.encoders import require_export

FRONTEND_CHANNELS = (8, 32, 128)  # constants of the reference, absent from its config.json
LOSSES = {"info-nce": "info_nce", "siglip": "siglip"}
# The reference cuts captions to this many tokens, special ones included, and to this many without them.
CLAP_TOKENS, CAPTION_TOKENS = 30, 128
# What is fixed in our text tower, in the words of transformers' BertConfig; other values cannot be built.
BERT = {"hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
_CHUNKS = {"chunk_size": [16, 32, 64, -1], "left_context_frames": [64, 128, 256, -1]}  # where the key is absent


def zipformer_config(values: dict[str, Any], **changes: Any) -> ZipformerConfig:
    """The encoder of a reference config; absent keys take the reference's defaults, unknown ones are ignored."""
    return dataclasses.replace(_pick(ZipformerConfig, values), frontend_channels=FRONTEND_CHANNELS, **changes)


def check_zipformer(values: dict[str, Any]) -> None:
    """Raises ConfigError unless ``values`` describe a Zipformer whose outputs are deterministic."""
    kind = values.get("model_type", "zipformer")
    if kind != "zipformer":
        raise ConfigError(f"the encoder has model_type {kind!r}: only a zipformer can be read")
    for name, default in _CHUNKS.items() if values.get("causal") else ():
        if len(values.get(name, default)) != 1:
            raise ConfigError(
                f"causal = true with {name} = {values.get(name, default)}, of which the reference draws one at every "
                "call: leave one there"
            )


def zipformer_values(model: ModelConfig) -> dict[str, Any]:
    """The reference's settings for the encoder of a model.

    Raises:
      UserError: another encoder, or front-end channels other than those that the reference hard-codes.
    """
    kind = require_export(model)
    values = to_dict(model.encoder)
    channels = tuple(values.pop("frontend_channels"))
    if channels != FRONTEND_CHANNELS:
        raise UserError(
            f"config.model.encoder.frontend_channels = {channels} has no place in the format, which always has "
            f"{FRONTEND_CHANNELS}"
        )
    return {"model_type": kind, "dropout": None, **values}


def clap_config(values: dict[str, Any]) -> tuple[ModelConfig, float]:
    """(model, temperature) of a reference config of kind ``clap``.

    Raises:
      ConfigError: no text tower, or one that is not BERT's.
    """
    if not isinstance(values.get("text_encoder_config"), dict):
        raise ConfigError("text_encoder_config is missing: the reference would ask a model hub for one")
    model = ModelConfig(
        name="clap",
        encoder=zipformer_config(values.get("audio_encoder_config") or {}),
        text=text_config(values["text_encoder_config"], "text_encoder_config."),
        shared_emb_dim=values.get("shared_emb_dim", ModelConfig.shared_emb_dim),
    )
    return model, float(values.get("temp", ObjectiveConfig.temperature))


def text_config(values: dict[str, Any], where: str = "") -> TextTowerConfig:
    """The text tower of a transformers config of kind ``bert`` or ``roberta``.

    Raises:
      ConfigError: a value that our tower does not support; the message names the key, with ``where`` before it.
    """
    for name, only in BERT.items():
        if values.get(name, only) not in (only, None):
            raise ConfigError(f"{where}{name} = {values[name]!r}: only {only!r} is supported")
    return _pick(TextTowerConfig, {"vocab_size": 30522, **values})


def text_values(config: TextTowerConfig, pad_id: int) -> dict[str, Any]:
    """A transformers config of kind ``bert`` for a text tower."""
    return {"model_type": "bert", **BERT, **to_dict(config), "pad_token_id": pad_id}


def clap_objective(values: dict[str, Any]) -> ObjectiveConfig:
    """The objective that a reference config of kind ``clap`` was trained with."""
    return ObjectiveConfig(
        name="contrastive",
        loss=LOSSES[choose(str(values.get("loss", "info-nce")).lower(), LOSSES, "loss in config.json")],
        reduction="sum",
        embed_reg=float(bool(values.get("embed_reg", True))),
        temperature=float(values.get("temp", ObjectiveConfig.temperature)),
        learn_temperature=False,
        exclude_duplicates=False,
    )


def clap_values(model: ModelConfig, objective: ObjectiveConfig, logit_scale: np.ndarray, pad_id: int) -> dict[str, Any]:
    """The reference's settings of kind ``clap``; its temperature is a setting, ours a parameter."""
    temperature = objective.temperature
    if np.float32(-math.log(temperature)) != np.float32(logit_scale):  # it was learnt, so the setting no longer holds
        temperature = 1.0 / min(math.exp(float(logit_scale)), objective.max_logit_scale)
    return {
        "model_type": "clap",
        "audio_encoder_config": zipformer_values(model),
        "text_encoder_config": text_values(model.text, pad_id),
        "shared_emb_dim": model.shared_emb_dim,
        "temp": temperature,
        "loss": next(theirs for theirs, ours in LOSSES.items() if ours == objective.loss),
        "embed_reg": objective.embed_reg > 0,
    }


def caption_config(values: dict[str, Any], vocab_size: int) -> ModelConfig:
    """The model of a reference config of kind ``audio-caption``; there the tokenizer alone says the vocabulary."""
    decoder = {**values, "vocab_size": vocab_size}
    decoder["dim_feedforward"] = values.get("dim_feedforward") or 4 * values.get("d_model", DecoderConfig.d_model)
    encoder = zipformer_config(values.get("audio_encoder_config") or {})
    return ModelConfig(name="audio-caption", encoder=encoder, decoder=_pick(DecoderConfig, decoder))


def caption_objective(values: dict[str, Any]) -> ObjectiveConfig:
    """The objective that a reference config of kind ``audio-caption`` was trained with."""
    smoothing = values.get("label_smoothing", ObjectiveConfig.label_smoothing)
    return ObjectiveConfig(name="captioning", label_smoothing=float(smoothing))


def caption_values(model: ModelConfig, objective: ObjectiveConfig) -> dict[str, Any]:
    """The reference's settings of kind ``audio-caption``."""
    decoder = to_dict(model.decoder)
    del decoder["vocab_size"]
    return {
        "model_type": "audio-caption",
        "audio_encoder_config": zipformer_values(model),
        **decoder,
        "label_smoothing": objective.label_smoothing,
    }


def _pick(kind: type, values: dict[str, Any]) -> Any:
    known = {field.name for field in dataclasses.fields(kind)}
    return from_dict(kind, {key: value for key, value in values.items() if key in known}, kind.__name__)
