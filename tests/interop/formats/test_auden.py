"""Model folders of the authors' toolbox: there and back without a changed bit, and one line for all that is wrong."""

import dataclasses
import json
import math
import os
import pickle

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from alp_jax.config.schema import FeatureConfig, ObjectiveConfig, ZipformerConfig
from alp_jax.core.errors import UserError
from alp_jax.interop import imported
from alp_jax.interop.formats import auden
from alp_jax.interop.isolated import unpickle
from alp_jax.train.build import read_config
from alp_jax.train.checkpoint import load_params

NAMES = ("caption_a", "caption_b", "clap", "zipformer_b", "zipformer_causal")


def refused(folder, words, **options):
    with pytest.raises(UserError, match=words) as caught:
        auden.read_folder(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_back(folder, model, params=None, kind=None, **changes):
    """What ``read_folder`` found, written again; returns (state dict, config.json)."""
    folder.mkdir(exist_ok=True)
    config = dataclasses.replace(model.config, **changes)
    values = {"batch_count": model.batch_count, "pad_id": 0, "settings": model.settings, "origin": {"run": "demo"}}
    auden.write_folder(folder, config, params or model.params, kind or model.model_type, **values)
    return load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_there_and_back_every_bit_is_the_same(models, tmp_path, name):
    state = models.write(tmp_path / "there", name)
    model = auden.read_folder(tmp_path / "there")
    assert model.batch_count == 31_410.0
    assert (model.left_out, model.converted) == ((), {})
    back, config = write_back(tmp_path / "back", model)
    assert back.keys() == state.keys()
    for key, value in state.items():
        assert (back[key].tobytes(), back[key].shape, back[key].dtype) == (value.tobytes(), value.shape, np.float32), (
            key
        )
    assert config.pop("alp") == {"run": "demo"}
    if "text_encoder_config" in config:  # ours says more about a text tower than the reference's settings did
        assert config["text_encoder_config"].items() >= models.settings(name)["text_encoder_config"].items()
        config["text_encoder_config"] = models.settings(name)["text_encoder_config"]
    assert {key: config[key] for key in models.settings(name)} == models.settings(name)
    assert (tmp_path / "back" / "model.safetensors").read_bytes()[8:].startswith(b'{"__metadata__":{"format":"pt"}')


def test_an_import_is_a_run_that_others_can_read(models, tmp_path):
    models.write(tmp_path / "there", "clap")
    model = auden.read_folder(tmp_path / "there")
    files = {"tokenizer.json": b"{}", "tokenizer_config.json": b"{}"}
    result = imported.write_run(tmp_path / "run", model, source="there", files=files, data="data/mini")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "there"]
    params, step = load_params(tmp_path / "run")
    config = read_config(tmp_path / "run")
    assert step == 0
    assert config.data.tokenizer == str(tmp_path / "run" / "tokenizer.json")
    assert config.data.text_budget == 28  # 30 tokens with the two special ones
    assert config.features.num_mel_bins == models.settings("clap")["audio_encoder_config"]["feature_dim"]
    objective = config.objective
    assert (objective.name, objective.loss, objective.embed_reg) == ("contrastive", "info_nce", 1.0)
    assert (objective.learn_temperature, objective.temperature) == (False, models.settings("clap")["temp"])
    jax.tree.map(np.testing.assert_array_equal, params, model.params)
    assert result["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert imported.read_record(tmp_path / "run")["batch_count"] == 31_410.0
    assert imported.read_record(tmp_path / "there") is None
    with pytest.raises(UserError, match="exists already"):
        imported.write_run(tmp_path / "run", model, source="there", files={}, data="data/mini")


def test_what_fails_leaves_no_folder(models, tmp_path, monkeypatch):
    models.write(tmp_path / "there", "zipformer_causal")
    model = auden.read_folder(tmp_path / "there")
    rename = os.rename
    monkeypatch.setattr(os, "rename", lambda old, new: 1 / 0 if str(new) == str(tmp_path / "run") else rename(old, new))
    with pytest.raises(ZeroDivisionError):
        imported.write_run(tmp_path / "run", model, source="there", files={}, data="data/mini")
    assert [p.name for p in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize("name", ["clap", "caption_a"])
def test_the_encoder_comes_out_of_a_whole_model(models, tmp_path, name):
    state = models.write(tmp_path, name)
    whole, alone = auden.read_folder(tmp_path), auden.read_folder(tmp_path, only_encoder=True)
    jax.tree.map(np.testing.assert_array_equal, alone.params, {"encoder": whole.params["encoder"]})
    assert alone.left_out == tuple(sorted(key for key in state if not key.startswith("audio_encoder.")))
    assert (alone.config.objective.name, alone.model_type) == ("none", "zipformer")
    assert auden.kind_of(whole.params, "encoder") == auden.kind_of(alone.params, "model") == "zipformer"


def test_a_recogniser_gives_its_encoder_when_told_to(models, tmp_path):
    encoder = models.state_dict("zipformer_causal")
    state = {f"encoder.{key}": value for key, value in encoder.items()} | {"joiner.weight": np.ones(3, np.float32)}
    config = {"model_type": "asr", "encoder_config": models.settings("zipformer_causal"), "joiner_dim": 512}
    models.write(tmp_path, "", state=state, config=config)
    refused(tmp_path, r"config.json has model_type 'asr', of which only the encoder .* --only_encoder")
    model = auden.read_folder(tmp_path, only_encoder=True)
    assert model.left_out == ("joiner.weight",)
    back, _ = write_back(tmp_path / "back", model)
    assert all(np.array_equal(back[key], value) for key, value in encoder.items())


def test_weights_are_looked_for_in_the_order_of_the_toolbox(models, tmp_path):
    first, second = models.state_dict("zipformer_causal", 1), models.state_dict("zipformer_causal", 2)
    models.write(tmp_path, "zipformer_causal", state=second)
    parallel = {f"module.{key}": value for key, value in first.items()}
    models.write(tmp_path, "zipformer_causal", state=parallel, file="pretrained.safetensors")
    back, _ = write_back(tmp_path / "back", auden.read_folder(tmp_path))
    assert np.array_equal(back["encoder_embed.out.bias"], first["encoder_embed.out.bias"])


def test_half_precision_is_converted_and_told(models, tmp_path):
    state = models.state_dict("zipformer_causal")
    key = "encoder_embed.out.weight"
    models.write(tmp_path, "zipformer_causal", state={**state, key: state[key].astype(np.float16)})
    model = auden.read_folder(tmp_path)
    assert model.converted == {key: "F16"}
    back, _ = write_back(tmp_path / "back", model)
    np.testing.assert_array_equal(back[key], state[key].astype(np.float16).astype(np.float32), strict=True)


def test_a_missing_batch_count_is_allowed(models, tmp_path):
    state = models.state_dict("clap")
    del state["audio_encoder.model_batch_count"]
    models.write(tmp_path, "clap", state=state)
    assert auden.read_folder(tmp_path).batch_count is None


@pytest.mark.parametrize("name", ["zipformer_causal", "clap", "caption_b"])
def test_missing_unused_and_reshaped_names_are_named_with_their_file(models, tmp_path, name):
    state = models.state_dict(name)
    for key in sorted(state)[1 :: len(state) // 5]:
        models.write(tmp_path, name, state={k: v for k, v in state.items() if k != key})
        assert "model.safetensors" in refused(tmp_path, rf"lacks {key}( |$)")
        models.write(tmp_path, name, state={**state, key: state[key][None]})
        assert "model.safetensors" in refused(tmp_path, f"{key} has shape")
    models.write(tmp_path, name, state={**state, "extra.weight": np.zeros(2, np.float32)})
    assert "model.safetensors" in refused(tmp_path, "has extra.weight, which a")


def test_numbers_that_no_weight_is_are_named(models, tmp_path):
    state, key = models.state_dict("zipformer_causal"), "encoder_embed.out.bias"
    models.write(tmp_path, "zipformer_causal", state={**state, key: state[key] * np.nan})
    refused(tmp_path, f"{key} holds numbers that are not finite")
    models.write(tmp_path, "zipformer_causal", state={**state, key: state[key].astype(np.int64)})
    refused(tmp_path, f"{key} holds int64 numbers")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "clip", "audio_encoder_config": None}, r"unknown model_type 'clip' \(did you mean 'clap'\?\)"),
        ({"model_type": "lalm"}, "model_type 'lalm', of which only the encoder can be read"),
        ({"model_type": None}, "does not say its model_type"),
        ({"text_encoder_config": None}, "text_encoder_config is missing"),
        ({"text_encoder_config": {"hidden_act": "relu"}}, "text_encoder_config.hidden_act = 'relu': only 'gelu'"),
        ({"text_encoder_config": {"num_hidden_layers": 10**9}}, "1000000006 layers, more than the 337 tensors"),
        ({"text_encoder_config": {"num_attention_heads": 0}}, "describes no model that can be built"),
        ({"audio_encoder_config": {"model_type": "whisper"}}, "model_type 'whisper': only a zipformer can be read"),
        ({"audio_encoder_config": {"causal": True}}, r"chunk_size = \[16, 32, 64, -1\], of which the reference draws"),
        ({"audio_encoder_config": {"encoder_dim": "wide"}}, "encoder_dim: expected a list"),
        ({"audio_encoder_config": {"num_encoder_layers": [10**9]}}, "more than the 337 tensors"),
        ({"temp": 0}, "temp = 0.0 is not a valid temperature"),
        ({"temp": "hot"}, "describes no model that can be built"),
        ({"loss": "triplet"}, "unknown loss in config.json 'triplet'"),
    ],
)
def test_settings_that_describe_no_model_of_ours_are_one_line(models, tmp_path, changes, words):
    models.write(tmp_path, "clap", config={**models.settings("clap"), **changes})
    refused(tmp_path, words)


def test_absent_and_damaged_files(tmp_path):
    refused(tmp_path, "config.json does not exist")
    (tmp_path / "config.json").write_text("{")
    refused(tmp_path, "config.json is not readable JSON")
    (tmp_path / "config.json").write_text("[]")
    refused(tmp_path, "does not say its model_type")
    (tmp_path / "config.json").write_text('{"model_type": "zipformer"}')
    refused(tmp_path, "has none of pretrained.safetensors, model.safetensors, pretrained.pt, model.pt, .*index.json$")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    refused(tmp_path, "has no weight_map that names the file of every tensor")
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 20)
    refused(tmp_path, "model.safetensors")


def test_pickles_are_read_on_demand_and_nothing_in_them_is_run(models, tmp_path):
    torch = pytest.importorskip("torch")
    state = models.write(tmp_path, "zipformer_causal")
    (tmp_path / "model.safetensors").unlink()
    path = tmp_path / "pretrained.pt"
    tensors = {f"module.{key}": torch.tensor(value) for key, value in state.items()}
    torch.save({"model": tensors, "epoch": 30}, path)
    refused(tmp_path, "pretrained.pt is a pickle, which can run code: --allow_pickle")
    back, _ = write_back(tmp_path / "back", auden.read_folder(tmp_path, allow_pickle=True))
    assert all(np.array_equal(back[key], value) for key, value in state.items())

    class Attack:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'attacked')!r}, 'w')",)

    path.write_bytes(pickle.dumps(Attack()))
    refused(tmp_path, "pretrained.pt cannot be read as a checkpoint of tensors", allow_pickle=True)
    assert not (tmp_path / "attacked").exists()
    for content, words in (
        ({"model": {"weight": "text"}}, "entry 'weight' is a str, not a tensor"),
        ([1], "holds a list"),
    ):
        torch.save(content, path)
        with pytest.raises(SystemExit, match=words):
            unpickle.main(str(path), str(tmp_path / "out.safetensors"))


@pytest.fixture(scope="module")
def clap(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clap")
    models.write(folder, "clap")
    return auden.read_folder(folder)


def test_what_the_format_cannot_express_is_refused_by_name(clap):
    def settings(kind="clap", model=None, **changes):
        replaced = {"model": dataclasses.replace(clap.config.model, **model)} if model else changes
        auden.model_settings(dataclasses.replace(clap.config, **replaced), clap.params, kind, 0)

    narrow = dataclasses.replace(clap.config.model.encoder, frontend_channels=(4, 8, 8))
    short = dataclasses.replace(clap.config.model.text, max_position_embeddings=20)
    for kind in ("clap", "zipformer", "audio-caption"):
        with pytest.raises(UserError, match=r"config.model.encoder.frontend_channels = \(4, 8, 8\) has no place"):
            settings(kind, model={"encoder": narrow})
        with pytest.raises(UserError, match=r"config.model.encoder_kind = 'vit' cannot be exported"):
            settings(kind, model={"encoder_kind": "vit"})
        with pytest.raises(UserError, match=r"config.features.high_hz = 8000.0 has no place"):
            settings(kind, features=FeatureConfig(high_hz=8000.0))
    with pytest.raises(UserError, match=r"config.model.text.max_position_embeddings = 20 is less than the 30"):
        settings(model={"text": short})
    for params, words in (
        ({"text": 0}, "holds a text tower only"),
        ({"encoder": 0, "text": 0, "decoder": 0}, "no model with decoder, text beside its encoder: --part encoder"),
        ({"encoder": 0, "tagger": 0}, "no model with tagger beside"),
    ):
        with pytest.raises(UserError, match=words):
            auden.kind_of(params, "model")


def test_every_setting_of_the_encoder_is_known_to_the_reference(models):
    """A new setting must be given a place in the format, or be refused as ``frontend_channels`` is."""
    known = set(models.settings("zipformer_b")) - {"model_type", "dropout"}
    assert {field.name for field in dataclasses.fields(ZipformerConfig)} == known | {"frontend_channels"}


def test_a_temperature_that_was_learnt_becomes_the_setting(models, tmp_path, clap):
    for learnt, expected in ((1.25, math.exp(-1.25)), (9.0, 1 / 100.0)):
        params = {**clap.params, "logit_scale": np.float32(learnt)}
        _, config = write_back(tmp_path, clap, params, objective=ObjectiveConfig(loss="siglip", embed_reg=0.0))
        assert config["temp"] == pytest.approx(expected, rel=1e-12)
        assert (config["loss"], config["embed_reg"]) == ("siglip", False)
    _, config = write_back(tmp_path, clap)
    assert config["temp"] == models.settings("clap")["temp"]
