"""The map to the reference's state dicts is total, one-to-one and exact, and says what does not fit."""

import json
import pathlib

import jax
import numpy as np
import pytest

from alp_jax.config.schema.model import DECODER, TEXT
from alp_jax.core.errors import UserError
from alp_jax.interop.formats.names import entries, from_torch, leaf_path, to_torch
from alp_jax.interop.formats.reference import caption_config, clap_config, zipformer_config
from alp_jax.models.dual import AudioTextModel
from alp_jax.models.functional import functionalize
from alp_jax.models.zipformer.encoder import Zipformer

# names and shapes of state dicts that the reference wrote
STATE_DICTS = json.loads((pathlib.Path(__file__).parents[2] / "golden" / "vectors" / "state_dicts.json").read_text())
OUTSIDE = {"clap": {"logit_scale": 2.5}}


def make(kind, config, vocab_size):
    if kind == "clap":
        model, temperature = clap_config(config)
        return lambda rngs: AudioTextModel(model, (TEXT,), temperature=temperature, rngs=rngs)
    if kind == "audio-caption":
        return lambda rngs: AudioTextModel(caption_config(config, vocab_size), (DECODER,), rngs=rngs)
    return lambda rngs: Zipformer(zipformer_config(config), rngs=rngs)


class Reference:
    """One of the reference's models: our shapes, and random numbers under the reference's names."""

    def __init__(self, name):
        table = STATE_DICTS[name]
        self.kind = "zipformer" if table["kind"] == "zipformer_forward" else table["kind"]
        init, _ = functionalize(make(self.kind, table["config"], table["vocab_size"]))
        self.like = jax.eval_shape(init, jax.random.key(0))
        rng = np.random.default_rng(0)
        self.state = {key: rng.normal(size=shape).astype(np.float32) for key, shape in table["shapes"].items()}
        if table["config"].get("decoder_shared_emb"):
            self.state["text_decoder.output_proj.weight"] = self.state["text_decoder.text_embed.weight"].copy()

    def read(self, state):
        return from_torch(state, self.like, self.kind, outside=OUTSIDE.get(self.kind))


@pytest.fixture(scope="module", params=sorted(STATE_DICTS))
def reference(request):
    return Reference(request.param)


@pytest.fixture(scope="module")
def caption():
    return Reference("caption_b")


def test_round_trip_is_bit_exact_and_total_in_both_directions(reference):
    params = reference.read(reference.state)
    count = next(value for name, value in reference.state.items() if name.endswith("model_batch_count"))
    back = to_torch(params, reference.kind, batch_count=float(count))
    assert back.keys() == reference.state.keys()
    for name, value in reference.state.items():
        np.testing.assert_array_equal(back[name], value, err_msg=name, strict=True)
        assert back[name].flags.c_contiguous
    table = entries(reference.like, reference.kind)
    leaves = jax.tree_util.tree_leaves_with_path(reference.like)
    mapped = {entry.path for entry in table} | OUTSIDE.get(reference.kind, {}).keys()
    assert mapped == {leaf_path(path) for path, _ in leaves}
    assert len({entry.name for entry in table}) == len(table)


def test_the_result_has_the_shapes_and_types_asked_for(reference):
    params = reference.read(reference.state)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), params) == jax.tree.map(
        lambda x: (x.shape, x.dtype), reference.like
    )


def test_a_missing_name_is_named(caption):
    for name in [*sorted(caption.state)[::6], "audio_encoder.model_batch_count"]:
        state = {key: value for key, value in caption.state.items() if key != name}
        if name.endswith("model_batch_count"):
            caption.read(state)
            continue
        with pytest.raises(UserError, match=f"lacks {name}( |$)"):
            caption.read(state)


def test_an_unused_name_is_named(caption):
    with pytest.raises(UserError, match=r"has enc_dec_proj\.bias"):
        caption.read({**caption.state, "enc_dec_proj.bias": np.zeros(3, np.float32)})


@pytest.mark.parametrize(
    "name",
    [
        "text_decoder.decoder.layers.0.linear1.weight",
        "audio_encoder.encoder_embed.convnext.pointwise_conv1.weight",
        "audio_encoder.encoder_embed.conv.4.weight",
        "audio_encoder.encoder.encoders.1.encoder.layers.0.conv_module1.depthwise_conv.weight",
        "audio_encoder.encoder.encoders.0.layers.0.norm.log_scale",
    ],
)
def test_a_reshaped_array_is_named(caption, name):
    reshaped = caption.state[name].T if caption.state[name].ndim > 1 else caption.state[name][None]
    with pytest.raises(UserError, match=f"{name} has shape"):
        caption.read({**caption.state, name: reshaped})


def test_tied_matrices_that_differ_are_named(caption):
    other = caption.state["text_decoder.output_proj.weight"] + 1
    with pytest.raises(UserError, match=r"text_decoder.output_proj.weight and text_decoder.text_embed.weight differ"):
        caption.read({**caption.state, "text_decoder.output_proj.weight": other})


def test_the_temperature_stays_outside_the_state_dict():
    clap = Reference("clap")
    assert clap.read(clap.state)["logit_scale"] == 2.5
    with pytest.raises(UserError, match="logit_scale"):
        from_torch(clap.state, clap.like, "clap")


def test_a_parameter_of_ours_without_a_rule_is_named(caption):
    with pytest.raises(UserError, match="decoder/extra/kernel"):
        entries({"decoder": {"extra": {"kernel": np.zeros(2)}}}, "audio-caption")
    with pytest.raises(UserError, match="'zipformer'"):
        entries({}, "zipforner")
