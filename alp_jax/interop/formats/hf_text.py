"""Text towers between our parameters and the model folders of transformers.

Read: BERT and RoBERTa. Written: BERT, without the pooler, which our tower does not have
(``BertModel.from_pretrained(folder, add_pooling_layer=False)``). A caption decoder is neither read nor written:
BART's has learnt positions, a norm after its embeddings and separate projections with biases, and no class of
transformers matches ours (fixed interleaved sinusoids, no biases, no norm at either end).
"""

import dataclasses
import pathlib
import re
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save

from alp_jax.config.schema import DataConfig, ModelConfig, ObjectiveConfig, TextTowerConfig
from alp_jax.core.errors import UserError
from alp_jax.core.files import write_bytes, write_json
from alp_jax.interop.formats.export_folder import CONFIG, WEIGHTS
from alp_jax.interop.formats.names import params_from, to_torch
from alp_jax.interop.formats.reference import text_config, text_values
from alp_jax.interop.reading.foreign import (
    Imported,
    Weights,
    described_by,
    load_weights,
    read_settings,
    run_config,
)
from alp_jax.models.functional import functionalize
from alp_jax.models.transformer import TextTower

KINDS = ("bert", "roberta")
# What surrounds a tower in models that were trained to predict masked words; the tower works without it.
_HEADS = re.compile(r"pooler\.|cls\.|lm_head\.|classifier\.|qa_outputs\.|embeddings\.(position|token_type)_ids$")
_OLD = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
_POSITIONS = "embeddings.position_embeddings.weight"
NO_DECODER = (
    "transformers has no class for this caption decoder (fixed interleaved sinusoids for positions, no biases, no norm "
    "before its first or after its last layer); --format auden exports it"
)


def read_folder(folder: pathlib.Path, *, allow_pickle: bool = False) -> Imported:
    """The text tower of a transformers folder.

    Raises:
      UserError: a file is missing or damaged, the model is of another kind, or names and shapes are not its own.
    """
    path, settings, kind = read_settings(folder)
    if kind in ("bart", "mbart"):
        raise UserError(
            f"{path} has model_type {kind!r}, whose decoder has decoder.embed_positions and "
            "decoder.layernorm_embedding: our caption decoder has no place for them (its tokenizer.json can be used)"
        )
    if kind not in KINDS:
        raise UserError(f"{path} has unknown model_type {kind!r} (known: {', '.join(KINDS)})")
    weights, left_out = _tower(load_weights(folder, allow_pickle=allow_pickle), kind)
    with described_by(path):
        text = text_config(settings)
        if text.num_hidden_layers > len(weights.tensors):
            raise UserError(f"{path} has more layers than {weights.path} has tensors")
        if kind == "roberta":
            text, weights = _without_offset(text, weights, settings.get("pad_token_id", 1))
        like = jax.eval_shape(functionalize(lambda rngs: TextTower(text, rngs=rngs))[0], jax.random.key(0))
        params = {"text": params_from(weights, {"text": like}, "bert")["text"]}
    budget = min(DataConfig.text_budget, text.max_position_embeddings - 2)
    config = run_config(ModelConfig(name="imported", text=text), ObjectiveConfig(name="none"), budget)
    return Imported(config, params, kind, settings, None, left_out, weights.converted)


def _tower(weights: Weights, kind: str) -> tuple[Weights, tuple[str, ...]]:
    """The tower's weights under the names of BertModel, and what was left out."""
    if any(name.startswith(f"{kind}.") for name in weights.tensors):
        heads = tuple(sorted(name for name in weights.tensors if not name.startswith(f"{kind}.")))
        unknown = [name for name in heads if not _HEADS.match(name)]
        if unknown:
            raise UserError(f"{weights.path} has {unknown[0]}, which is not part of a {kind} model")
        inner, prefix = weights.within(f"{kind}."), f"{kind}."
    else:
        heads, inner, prefix = (), weights, ""
    dropped = [name for name in inner.tensors if _HEADS.match(name)]
    kept = {_new(name): value for name, value in inner.tensors.items() if name not in dropped}
    converted = {_new(name): kind for name, kind in inner.converted.items() if name not in dropped}
    left_out = tuple(sorted((*heads, *(prefix + name for name in dropped))))
    return Weights(weights.path, kept, converted), left_out


def _new(name: str) -> str:
    """The present name: early BERT checkpoints call the weights of a norm gamma and beta."""
    for old, new in _OLD.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _without_offset(text: TextTowerConfig, weights: Weights, pad_id: int) -> tuple[TextTowerConfig, Weights]:
    """RoBERTa counts positions from ``pad_id + 1``; our tower has no rows before the first position."""
    first = pad_id + 1
    table = weights.tensors.get(_POSITIONS)
    if table is None or len(table) != text.max_position_embeddings or first >= len(table):
        raise UserError(
            f"{weights.path}: {_POSITIONS} must have the {text.max_position_embeddings} rows of config.json"
        )
    # the rows before that are used by padding alone, which is masked: dropping them changes no output
    text = dataclasses.replace(text, max_position_embeddings=text.max_position_embeddings - first)
    return text, weights._replace(tensors={**weights.tensors, _POSITIONS: table[first:]})


def write_folder(
    folder: pathlib.Path, text: TextTowerConfig, params: dict[str, Any], *, pad_id: int, origin: dict[str, Any]
) -> int:
    """Writes weights and config.json of a text tower as transformers' BertModel; returns the number of parameters.

    Args:
      params: of the whole run.
      pad_id: of the tokenizer.
      origin: where it is from, kept under ``alp``.
    """
    state = to_torch({"text": jax.tree.map(lambda x: np.asarray(x, np.float32), params["text"])}, "bert")
    write_bytes(folder / WEIGHTS, save(state, {"format": "pt"}))
    settings = {**text_values(text, pad_id), "architectures": ["BertModel"], "alp": origin}
    write_json(folder / CONFIG, settings)
    return sum(value.size for value in state.values())
