"""Text towers of transformers: its own models computed by ours, ours computed by its own, and what has no place."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from alp_jax.core.errors import UserError
from alp_jax.interop.formats import hf_text
from alp_jax.interop.formats.names import to_torch
from alp_jax.interop.writing import parity
from alp_jax.interop.writing.compare import hidden_states

CONFIG = {
    "model_type": "bert",
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
    "pad_token_id": 1,
}
IDS = [[0, 7, 8, 2], [0, 9, 2], [0, *range(3, 19), 2]]
HEADS = {
    "bert.pooler.dense.weight": (16, 16),
    "bert.embeddings.position_ids": (1, 20),
    "cls.predictions.bias": (50,),
    "cls.seq_relationship.weight": (2, 16),
}


@pytest.fixture(scope="module")
def tower():
    """(settings, parameters, their state dict under the names of BertModel)."""
    settings = hf_text.text_config(CONFIG)
    rng = np.random.default_rng(0)
    like = jax.eval_shape(
        hf_text.functionalize(lambda rngs: hf_text.TextTower(settings, rngs=rngs))[0], jax.random.key(0)
    )
    params = {"text": jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32), like)}
    return settings, params, to_torch(params, "bert")


def write(folder, state, **changes):
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))


def refused(folder, words):
    with pytest.raises(UserError, match=words) as caught:
        hf_text.read_folder(folder)
    assert "\n" not in str(caught.value)


def test_there_and_back_every_bit_is_the_same(tmp_path, tower):
    settings, params, state = tower
    count = hf_text.write_folder(tmp_path, settings, params, pad_id=1, origin={"run": "demo"})
    assert count == sum(value.size for value in state.values())
    model = hf_text.read_folder(tmp_path)
    assert model.config.model.text == settings
    assert model.config.data.text_budget == 18  # all positions but those of the two special tokens
    assert (model.left_out, model.converted, model.config.objective.name) == ((), {}, "none")
    jax.tree.map(np.testing.assert_array_equal, model.params, params)
    stored = load_file(tmp_path / "model.safetensors")
    assert stored.keys() == state.keys()
    assert "encoder.layer.1.attention.self.key.weight" in stored
    assert not any("pooler" in name for name in stored)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "bert"


def test_old_names_are_read_and_heads_are_left_out_and_told(tmp_path, tower):
    _, params, state = tower
    old = {f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma"): value for name, value in state.items()}
    old = {name.replace("LayerNorm.bias", "LayerNorm.beta"): value for name, value in old.items()}
    assert sum(name.endswith(("gamma", "beta")) for name in old) == 10
    heads = {name: np.zeros(shape, np.int64 if name.endswith("ids") else np.float32) for name, shape in HEADS.items()}
    write(tmp_path, old | heads)
    model = hf_text.read_folder(tmp_path)
    assert model.left_out == tuple(sorted(HEADS))
    jax.tree.map(np.testing.assert_array_equal, model.params, params)
    write(tmp_path, old | {"crf.weight": np.zeros(3, np.float32)})
    refused(tmp_path, "model.safetensors has crf.weight, which is not part of a bert model")


def test_roberta_counts_positions_from_two(tmp_path, tower):
    _, params, state = tower
    table = state["embeddings.position_embeddings.weight"]
    padded = {
        **state,
        "embeddings.position_embeddings.weight": np.concatenate([np.full((2, 16), 99.0, np.float32), table]),
    }
    named = {f"roberta.{name}": value for name, value in padded.items()} | {"lm_head.bias": np.zeros(50, np.float32)}
    write(tmp_path, named, model_type="roberta", max_position_embeddings=22)
    model = hf_text.read_folder(tmp_path)
    assert model.config.model.text.max_position_embeddings == 20
    assert model.left_out == ("lm_head.bias",)
    jax.tree.map(np.testing.assert_array_equal, model.params, params)
    write(tmp_path, named, model_type="roberta", max_position_embeddings=20)
    refused(tmp_path, "embeddings.position_embeddings.weight must have the 20 rows of config.json")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "bart"}, "'bart', whose decoder has decoder.embed_positions and decoder.layernorm_embedding"),
        ({"model_type": "gpt2"}, r"unknown model_type 'gpt2' \(known: bert, roberta\)"),
        ({"hidden_act": "relu"}, "hidden_act = 'relu': only 'gelu' is supported"),
        ({"position_embedding_type": "relative_key"}, "only 'absolute' is supported"),
        ({"is_decoder": True}, "is_decoder = True: only False is supported"),
        ({"num_hidden_layers": 10**9}, "more layers than"),
        ({"num_hidden_layers": 3}, "lacks encoder.layer.2"),
        ({"num_hidden_layers": 1}, "has encoder.layer.1"),
        ({"hidden_size": 20}, "has shape"),
        ({"num_attention_heads": 3}, "hidden_size=16 is not a multiple"),
        ({"vocab_size": "many"}, "vocab_size: expected int"),
    ],
)
def test_what_is_no_tower_of_ours_is_one_line(tmp_path, tower, changes, words):
    write(tmp_path, tower[2], **changes)
    refused(tmp_path, words)


def test_other_outputs_are_not_approved():
    states = [np.zeros((2, 3)), np.ones((4, 3))]
    assert parity.same_states(states, [states[0], states[1] + 1e-5], "it") == pytest.approx(1e-5)
    for wrong in ([states[0], states[1] + 2e-4], [states[0], states[1][:3]], [states[0] * np.nan, states[1]]):
        with pytest.raises(parity.ParityError, match="it differs from JAX by hidden"):
            parity.same_states(states, wrong, "it")


@pytest.mark.parametrize("kind", ["Bert", "Roberta"])
def test_models_of_transformers_compute_the_same_here(tmp_path, kind):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    settings = getattr(transformers, f"{kind}Config")(**{**CONFIG, "model_type": kind.lower(), "layer_norm_eps": 1e-5})
    torch.manual_seed(0)
    theirs = getattr(transformers, f"{kind}Model")(settings).eval()
    for parameter in theirs.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    theirs.save_pretrained(tmp_path)
    model = hf_text.read_folder(tmp_path)
    assert model.left_out == ("pooler.dense.bias", "pooler.dense.weight")
    ours = hidden_states(model.config.model.text, model.params["text"], IDS)
    with torch.inference_mode():
        for ids, hidden in zip(IDS, ours, strict=True):
            want = theirs(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.long)).last_hidden_state[0].numpy()
            assert np.max(np.abs(hidden - want)) <= 1e-4
