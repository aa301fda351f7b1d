"""Encoders out of icefall checkpoints: sizes read off the shapes, and what is not the encoder's named."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from alp_jax.config.schema import ZipformerConfig
from alp_jax.core.errors import UserError
from alp_jax.interop.formats import icefall
from alp_jax.interop.formats.names import LAYOUTS, entries, leaf_path, to_torch
from alp_jax.interop.formats.reference import zipformer_config
from alp_jax.interop.reading.foreign import Weights
from alp_jax.models.functional import functionalize
from alp_jax.models.zipformer.encoder import Zipformer

CONFIG = ZipformerConfig(
    num_encoder_layers=(1, 2, 1),
    downsampling_factor=(1, 2, 4),
    encoder_dim=(16, 24, 20),
    feedforward_dim=(32, 48, 24),
    num_heads=(2, 4, 2),
    query_head_dim=(32,),
    value_head_dim=(12,),
    pos_head_dim=(4,),
    pos_dim=24,
    encoder_unmasked_dim=(16, 24, 20),
    cnn_module_kernel=(9, 5, 7),
)
RECOGNISER = {"decoder.embedding.weight": (7, 4), "joiner.output_linear.bias": (7,), "ctc_output.1.weight": (7, 20)}


def state_dict(config):
    rng = np.random.default_rng(0)
    like = jax.eval_shape(functionalize(lambda rngs: Zipformer(config, rngs=rngs))[0], jax.random.key(0))
    return to_torch(jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), like), "zipformer")


@pytest.fixture(scope="module")
def state():
    return state_dict(CONFIG)


def read(tmp_path, state, given=None, **options):
    save_file(state, tmp_path / "epoch-30.safetensors")
    if given is not None:
        (tmp_path / "sizes.json").write_text(json.dumps(given))
    settings = None if given is None else tmp_path / "sizes.json"
    options = {"only_encoder": False, "allow_pickle": False, "settings": settings, **options}
    return icefall.read_checkpoint(tmp_path / "epoch-30.safetensors", **options)


def refused(tmp_path, state, words, given=None, **options):
    with pytest.raises(UserError, match=words) as caught:
        read(tmp_path, state, given, **options)
    assert "\n" not in str(caught.value)


def test_sizes_are_read_off_the_shapes(tmp_path, state):
    model = read(tmp_path, state)
    assert model.config.model.encoder == CONFIG
    assert model.config.objective.name == "none"
    assert (model.model_type, model.left_out) == ("icefall", ())
    back = to_torch(model.params["encoder"], "zipformer")
    assert back.keys() == state.keys()
    assert all(np.array_equal(back[name], value) for name, value in state.items())


def test_the_recipes_own_sizes_are_all_read_off():
    config = ZipformerConfig()
    like = jax.eval_shape(functionalize(lambda rngs: Zipformer(config, rngs=rngs))[0], jax.random.key(0))
    layout = {entry.path: entry for entry in entries(like, "zipformer")}
    empty = {}  # views of a single number: the shapes are all that matters
    for path, leaf in jax.tree_util.tree_leaves_with_path(like):
        entry = layout[leaf_path(path)]
        empty[entry.name] = LAYOUTS[entry.layout].to_torch(np.broadcast_to(np.float32(0), leaf.shape))
    found = icefall.TensorShapes(Weights(pathlib.Path("pretrained.pt"), empty, {})).settings({})
    assert zipformer_config(found) == config


def test_what_is_a_recognisers_is_left_out_only_when_told_to(tmp_path, state):
    whole = state | {name: np.ones(shape, np.float32) for name, shape in RECOGNISER.items()}
    refused(tmp_path, whole, r"holds 3 weights that are not the encoder's \(ctc_output, decoder, joiner\): --only_enc")
    model = read(tmp_path, whole, only_encoder=True)
    assert model.left_out == tuple(sorted(RECOGNISER))
    assert model.config.model.encoder == CONFIG


def test_heads_of_other_sizes_and_other_features_need_to_be_told(tmp_path):
    config = dataclasses.replace(CONFIG, query_head_dim=(16,), feature_dim=40)
    state = state_dict(config)
    refused(tmp_path, state, r"rows \[72, 144, 72\] of self_attn_weights.in_proj.weight do not come from heads of")
    heads = {"num_heads": [2, 4, 2], "query_head_dim": [16], "value_head_dim": [12], "pos_head_dim": [4]}
    refused(tmp_path, state, r"encoder_embed.out.weight has 1152 columns, where 80 mel bins give 2432", heads)
    model = read(tmp_path, state, {**heads, "feature_dim": 40})
    assert model.config.model.encoder == config
    assert model.config.features.num_mel_bins == 40
    refused(tmp_path, state, "self_attn1.in_proj.bias has shape", {**heads, "num_heads": [2, 2, 2], "feature_dim": 40})
    refused(tmp_path, state, "describes no model that can be built", {**heads, "num_heads": "two", "feature_dim": 40})
    refused(tmp_path, state, "are not a JSON object", [])


def test_a_streaming_encoder_needs_one_chunk_size(tmp_path):
    config = dataclasses.replace(CONFIG, causal=True, chunk_size=(16,), left_context_frames=(64,))
    state = state_dict(config)
    refused(tmp_path, state, r"chunk_size = \[16, 32, 64, -1\], of which the reference draws one")
    model = read(tmp_path, state, {"chunk_size": [16], "left_context_frames": [64]})
    assert model.config.model.encoder == config


def test_damaged_state_dicts_are_named(tmp_path, state):
    for name in ("encoder_embed.out.weight", "encoder.encoders.1.encoder.layers.1.norm.bias"):
        refused(tmp_path, {n: v for n, v in state.items() if n != name}, f"lacks {name}")
    refused(tmp_path, {**state, "encoder.extra": np.ones(2, np.float32)}, "has encoder.extra, which a zipformer")
    refused(tmp_path, {"encoder.weight": np.ones(2, np.float32)}, "it is not a Zipformer")
    rest = {n: v for n, v in state.items() if not n.startswith("encoder.encoders.1.")}
    refused(tmp_path, rest, "it is not a Zipformer")
    name = "encoder.encoders.0.layers.0.norm.bias"
    refused(tmp_path, {**state, name: np.zeros((), np.float32)}, f"lacks {name}, or it is not of a Zipformer's shape")
