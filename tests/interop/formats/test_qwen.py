"""Folders of Qwen2.5: transformers' own models computed by ours, shards, and every tensor that is not as it must be."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from alp_jax.core.errors import UserError
from alp_jax.interop.formats import qwen
from alp_jax.models.functional import functionalize
from alp_jax.models.qwen import Qwen, empty_cache

CONFIG = {
    "model_type": "qwen2",
    "vocab_size": 37,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "rope_theta": 5000.0,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
TOKENS = np.array([[3, 30, 7, 7, 1, 36, 0, 12], [9, 8, 7, 6, 5, 4, 3, 2]], np.int32)


def write(folder, state, **changes):
    folder.mkdir(exist_ok=True)
    save_file(state, folder / qwen.WHOLE)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    return folder


@pytest.fixture(scope="module")
def state():
    """A state dict under the published names, written down by hand: [out, in] for linear layers."""
    rng = np.random.default_rng(0)
    shapes = {"model.embed_tokens.weight": (37, 24), "lm_head.weight": (37, 24), "model.norm.weight": (24,)}
    for i in range(2):
        layer = f"model.layers.{i}."
        for name, rows in (("q", 24), ("k", 8), ("v", 8)):
            shapes |= {
                f"{layer}self_attn.{name}_proj.weight": (rows, 24),
                f"{layer}self_attn.{name}_proj.bias": (rows,),
            }
        shapes |= {f"{layer}self_attn.o_proj.weight": (24, 24), f"{layer}mlp.down_proj.weight": (24, 40)}
        shapes |= {f"{layer}mlp.{name}_proj.weight": (40, 24) for name in ("gate", "up")}
        shapes |= {f"{layer}{name}_layernorm.weight": (24,) for name in ("input", "post_attention")}
    return {name: rng.normal(len(shape) == 1, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}


def refused(folder, words):
    with pytest.raises(UserError, match=words) as caught:
        qwen.load_qwen(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tied", [False, True], ids=["own head", "tied"])
def test_models_of_transformers_compute_the_same_here_with_and_without_a_cache(tmp_path, tied):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    theirs = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**{**CONFIG, "tie_word_embeddings": tied})).eval()
    for parameter in theirs.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)  # else biases are zero and norms one
    theirs.save_pretrained(tmp_path)
    config, params = qwen.load_qwen(tmp_path)
    assert (config.rope_theta, config.tie_word_embeddings, "lm_head" in params) == (5000.0, tied, not tied)
    with torch.inference_mode():
        want = theirs(torch.tensor(TOKENS, dtype=torch.long)).logits.numpy()
    _, apply = functionalize(lambda rngs: Qwen(config, rngs=rngs))
    assert np.abs(want).max() > 0.5

    @jax.jit
    def both(params):
        x_BLD = apply(params, TOKENS, method="embed")
        cache, zero_B = empty_cache(config, 2, 8, np.float32), np.zeros(2, np.int32)
        begin, cache = apply(params, x_BLD[:, :5], zero_B, cache, method="extend")
        end, _ = apply(params, x_BLD[:, 5:], zero_B + 5, cache, method="extend")
        cached = apply(params, jax.numpy.concatenate([begin, end], axis=1), method="logits")
        return apply(params, TOKENS), cached

    for got in both(params):
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_shards_are_the_same_as_one_file_and_bfloat16_loses_nothing_of_bfloat16(tmp_path, state):
    half = {name: value.astype(qwen.DTYPES["bfloat16"]) for name, value in state.items()}
    whole = qwen.load_qwen(write(tmp_path / "whole", half))
    shards = write(tmp_path / "shards", half)
    (shards / qwen.WHOLE).unlink()
    names = sorted(half)
    table = {name: f"model-0000{1 + k // 14}-of-00002.safetensors" for k, name in enumerate(names)}
    for file in set(table.values()):
        save_file({name: half[name] for name in names if table[name] == file}, shards / file)
    (shards / qwen.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": table}))
    low = qwen.load_qwen(shards, "bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(low.params)} == {qwen.DTYPES["bfloat16"]}
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.float32, low.params), whole.params)
    save_file({name: half[name] for name in names[:13]}, shards / "model-00001-of-00002.safetensors")
    refused(shards, f"model-00001-of-00002.safetensors lacks {names[13]}, contrary to {qwen.INDEX}")
    for file, words in (
        ("../other.safetensors", "names '../other.safetensors', which is not the name of a file beside it"),
        ("model.bin", "model.bin is missing"),
        (3, "has no weight_map"),
    ):
        (shards / qwen.INDEX).write_text(json.dumps({"weight_map": table | {names[0]: file}}))
        refused(shards, words)


def test_every_missing_and_unexpected_tensor_is_named(tmp_path, state):
    changed = {name: value for name, value in state.items() if "layers.1.mlp" not in name}
    folder = write(tmp_path, changed | {"visual.weight": np.zeros(3, np.float32), "extra": np.zeros(1, np.float32)})
    gone = ", ".join(f"model.layers.1.mlp.{name}_proj.weight" for name in ("down", "gate", "up"))
    refused(folder, f"lacks {gone} and has weights that the model lacks: extra, visual.weight$")
    write(tmp_path, state, num_hidden_layers=1)
    refused(folder, "has weights that the model lacks: model.layers.1.input_layernorm.weight, .*v_proj.weight$")
    write(tmp_path, state | {"model.norm.weight": np.zeros(23, np.float32)})
    refused(folder, r"model.norm.weight has shape \[23\]; config.json asks for \[24\]")
    write(tmp_path, state | {"model.norm.weight": np.full(24, np.nan, np.float32)})
    refused(folder, "model.norm.weight holds numbers that are not finite")
    write(tmp_path, state | {"model.norm.weight": np.zeros(24, np.int32)})
    refused(folder, "model.norm.weight holds int32 numbers")


def test_a_head_beside_tied_embeddings_must_be_them(tmp_path, state):
    folder = write(tmp_path, state, tie_word_embeddings=True)
    refused(folder, "lm_head.weight differs from model.embed_tokens.weight")
    write(tmp_path, state | {"lm_head.weight": state["model.embed_tokens.weight"]}, tie_word_embeddings=True)
    assert "lm_head" not in qwen.load_qwen(folder).params
    assert "lm_head.weight" in load_file(folder / qwen.WHOLE)


def test_pickles_are_refused_and_empty_folders_said_to_be(tmp_path, state):
    folder = write(tmp_path, state)
    (folder / qwen.WHOLE).rename(folder / "pytorch_model.bin")
    refused(folder, r"as a pickle \(pytorch_model.bin\), which can run code")
    (folder / "pytorch_model.bin").unlink()
    refused(folder, "has neither model.safetensors nor model.safetensors.index.json")
    (folder / "config.json").unlink()
    refused(folder, "config.json does not exist")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "llama"}, "has model_type 'llama'; Qwen2.5 has 'qwen2'"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu' is not supported, only 'silu'"),
        ({"use_sliding_window": True}, "use_sliding_window = True is not supported"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "scaled rotary positions .*yarn"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6}}, "scaled rotary positions"),
        ({"num_key_value_heads": 4}, "num_attention_heads = 6 is not a multiple of num_key_value_heads = 4"),
        ({"num_key_value_heads": None}, "lacks num_key_value_heads"),
        ({"hidden_size": "24"}, "hidden_size = '24' must be of type int"),
        ({"num_hidden_layers": True}, "num_hidden_layers = True must be of type int"),
        ({"head_dim": 8}, "head_dim = 8, but hidden_size says 4"),
    ],
)
def test_settings_of_other_models_are_refused_by_name(tmp_path, changes, words):
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    with pytest.raises(UserError, match=words):
        qwen.read_config(tmp_path)
