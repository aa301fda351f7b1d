"""Model folders of the authors' PyTorch toolbox (Auden): ``config.json`` and ``model.safetensors``, both ways.

Their ``AutoModel.from_pretrained(folder)`` is strict about names and shapes, and so is this. The tokenizer files of a
folder are read elsewhere, by ``alp_jax.data``.
"""

import functools
import math
import pathlib
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save

from alp_jax.config import ConfigError, RunConfig
from alp_jax.config.schema import ModelConfig, ObjectiveConfig
from alp_jax.config.schema.model import DECODER, TEXT
from alp_jax.core.errors import UserError
from alp_jax.core.files import write_bytes, write_json
from alp_jax.core.names import nearest
from alp_jax.interop.formats import reference
from alp_jax.interop.formats.export_folder import CONFIG, WEIGHTS
from alp_jax.interop.formats.names import BATCH_COUNT, params_from, to_torch
from alp_jax.interop.reading.foreign import (
    Imported,
    Weights,
    described_by,
    load_weights,
    read_settings,
    run_config,
)
from alp_jax.models.dual import AudioTextModel
from alp_jax.models.functional import functionalize

KINDS = ("zipformer", "clap", "audio-caption")
_SIDES = {"clap": (TEXT,), "audio-caption": (DECODER,)}  # of our models, besides their encoder
# Where models of several parts keep their encoder's settings; names of its weights begin with the same word.
_NESTED = ("audio_encoder_config", "speech_encoder_config", "encoder_config")
_TABLE = "text_decoder.text_embed.weight"
SATURATED = 100_000.0  # batches after which the reference's schedules no longer change
MIN_POSITIONS = reference.CLAP_TOKENS


def read_folder(folder: pathlib.Path, *, only_encoder: bool = False, allow_pickle: bool = False) -> Imported:
    """The model of a folder.

    Args:
      only_encoder: take only the Zipformer from a larger model.
      allow_pickle: also read pickles (``.pt``, ``.bin``), in a separate process.

    Raises:
      UserError: a file is missing or damaged, the model is of another kind, or names and shapes are not its own.
    """
    path, settings, kind = read_settings(folder)
    nested = next((name for name in _NESTED if isinstance(settings.get(name), dict)), "")
    if kind not in KINDS and not nested:
        raise UserError(f"{path} has unknown model_type {kind!r}{nearest(kind, KINDS)}")
    if kind not in KINDS and not only_encoder:
        raise UserError(f"{path} has model_type {kind!r}, of which only the encoder can be read: give --only_encoder")
    encoder = settings if kind == "zipformer" else settings.get(nested, {})
    weights = load_weights(folder, allow_pickle=allow_pickle)
    with described_by(path):
        reference.check_zipformer(encoder)
        if kind == "zipformer":
            return encoder_alone(weights, encoder)._replace(settings=settings)
        if only_encoder:
            prefix = f"{(nested or _NESTED[0]).removesuffix('_config')}."
            left_out = tuple(sorted(name for name in weights.tensors if not name.startswith(prefix)))
            return encoder_alone(weights.within(prefix), encoder)._replace(left_out=left_out)
        return _whole(weights, kind, settings)


def encoder_alone(weights: Weights, settings: dict[str, Any]) -> Imported:
    """A Zipformer of ``settings`` (under the reference's names) and nothing else."""
    model = ModelConfig(name="imported", encoder=reference.zipformer_config(settings))
    _check_depth(sum(model.encoder.num_encoder_layers), weights)
    config = run_config(model, ObjectiveConfig(name="none"))
    params = {"encoder": params_from(weights, _shapes(model, ())["encoder"], "zipformer")}
    return _imported(weights, "zipformer", config, params, {})


def _whole(weights: Weights, kind: str, settings: dict[str, Any]) -> Imported:
    outside = {}
    if kind == "clap":
        model, temperature = reference.clap_config(settings)
        if not 0 < temperature < math.inf:
            raise ConfigError(f"temp = {temperature} is not a valid temperature")
        objective, text_budget = reference.clap_objective(settings), reference.CLAP_TOKENS - 2
        outside["logit_scale"] = -math.log(temperature)
    else:
        if _TABLE not in weights.tensors:
            raise UserError(f"{weights.path} lacks {_TABLE}")
        model = reference.caption_config(settings, len(np.atleast_1d(weights.tensors[_TABLE])))
        objective, text_budget = reference.caption_objective(settings), reference.CAPTION_TOKENS
    depth = model.text.num_hidden_layers if kind == "clap" else model.decoder.num_decoder_layers
    _check_depth(depth + sum(model.encoder.num_encoder_layers), weights)
    config = run_config(model, objective, text_budget)
    params = params_from(weights, _shapes(model, _SIDES[kind]), kind, outside=outside)
    return _imported(weights, kind, config, params, settings)


def _check_depth(layers: int, weights: Weights) -> None:
    """A layer has tensors of its own; without this a config.json could ask for billions of them."""
    if layers > len(weights.tensors):
        raise ConfigError(f"{layers} layers, more than the {len(weights.tensors)} tensors of {weights.path}")


@functools.lru_cache(maxsize=4)
def _shapes(model: ModelConfig, sides: tuple[str, ...]) -> dict[str, Any]:
    init, _ = functionalize(lambda rngs: AudioTextModel(model, sides, rngs=rngs))
    return jax.eval_shape(init, jax.random.key(0))


def _imported(weights: Weights, kind: str, config: RunConfig, params: dict, settings: dict[str, Any]) -> Imported:
    count = weights.tensors.get(BATCH_COUNT[kind])
    return Imported(config, params, kind, settings, None if count is None else float(count), (), weights.converted)


def kind_of(params: dict[str, Any], part: str) -> str:
    """What the format calls ``params``, or their encoder when ``part`` is ``encoder``.

    Raises:
      UserError: the format has no such model; the message names what it has no place for.
    """
    if "encoder" not in params:
        raise UserError("the run holds a text tower only: the format has no model without an audio encoder")
    if part == "encoder" or params.keys() == {"encoder"}:
        return "zipformer"
    if params.keys() == {"encoder", "text", "audio_proj", "text_proj", "logit_scale"}:
        return "clap"
    if params.keys() == {"encoder", "decoder"}:
        return "audio-caption"
    sides = ", ".join(sorted(params.keys() - {"encoder"}))
    raise UserError(f"the format has no model with {sides} beside its encoder: --part encoder exports that alone")


def write_folder(
    folder: pathlib.Path,
    config: RunConfig,
    params: dict[str, Any],
    kind: str,
    *,
    batch_count: float,
    pad_id: int,
    settings: dict[str, Any],
    origin: dict[str, Any],
) -> int:
    """Writes weights and config.json of a model of ``kind``; returns the number of parameters.

    Args:
      params: of the whole run, whatever the kind.
      batch_count: batches trained so far, which the encoder's schedules go by.
      pad_id: of the tokenizer.
      settings: further keys for config.json, from the folder that the model was once imported from.
      origin: where the model is from, kept under the key ``alp``.

    Raises:
      UserError: the format cannot express a setting, which the message names.
    """
    values = model_settings(config, params, kind, pad_id)
    params = jax.tree.map(lambda x: np.asarray(x, np.float32), params)
    state = to_torch(params["encoder"] if kind == "zipformer" else params, kind, batch_count=batch_count)
    write_bytes(folder / WEIGHTS, save(state, {"format": "pt"}))
    write_json(folder / CONFIG, {**_merged(settings, values), "alp": origin})
    return sum(value.size for name, value in state.items() if name != BATCH_COUNT[kind])


def _merged(before: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """``values`` over what was there ``before``, in nested settings too."""
    old = {name: before[name] for name, v in values.items() if isinstance(before.get(name), dict) and type(v) is dict}
    return {**before, **values, **{name: _merged(own, values[name]) for name, own in old.items()}}


def model_settings(config: RunConfig, params: dict[str, Any], kind: str, pad_id: int) -> dict[str, Any]:
    """The model's part of config.json; raises as ``write_folder``."""
    features, standard = config.features, type(config.features)()
    for name in ("low_hz", "high_hz"):
        if getattr(features, name) != getattr(standard, name):
            raise UserError(
                f"config.features.{name} = {getattr(features, name)} has no place in the format, whose features are "
                f"always those of {getattr(standard, name)}"
            )
    if kind == "zipformer":
        return reference.zipformer_values(config.model)
    if kind == "audio-caption":
        return reference.caption_values(config.model, config.objective)
    if config.model.text.max_position_embeddings < MIN_POSITIONS:
        raise UserError(
            f"config.model.text.max_position_embeddings = {config.model.text.max_position_embeddings} is less than "
            f"the {MIN_POSITIONS} tokens that the format's texts may have"
        )
    return reference.clap_values(config.model, config.objective, params["logit_scale"], pad_id)
