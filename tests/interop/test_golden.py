"""The golden verb and its parts, and parity of text tower, heads and decoder with recorded reference vectors."""

import json
import math
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from alp_jax.cli.main import main
from alp_jax.config.schema import ObjectiveConfig
from alp_jax.interop.golden import clap
from alp_jax.interop.golden.compare import Line, compare, compare_gradient
from alp_jax.interop.names import from_torch, to_torch
from alp_jax.interop.reference import caption_config, clap_config
from alp_jax.models.decoder import CaptionDecoder
from alp_jax.models.decoding import Ids
from alp_jax.models.dual import AudioTextModel
from alp_jax.models.functional import functionalize
from alp_jax.models.text import TextTower
from alp_jax.objectives.base import SpecialTokens
from alp_jax.objectives.captioning import make_captioning

GOLDEN = pathlib.Path(__file__).parent / "golden"


def vectors(name):
    folder = GOLDEN / name
    config = json.loads((folder / "config.json").read_text())
    return config, load_file(folder / "io.safetensors"), load_file(folder / "weights.safetensors")


def test_text_side_equals_the_reference():
    settings, io, weights = vectors("clap_text_side")
    config, temperature = clap_config(settings["clap_config"])
    init, apply = functionalize(lambda rngs: AudioTextModel(config, "contrastive", temperature=temperature, rngs=rngs))
    _, apply_text = functionalize(lambda rngs: TextTower(config.text, rngs=rngs))
    like = jax.eval_shape(init, jax.random.key(0))
    side = from_torch(weights, {part: like[part] for part in ("text", "audio_proj", "text_proj")}, "clap")
    encoder = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), like["encoder"])
    log_scale = jnp.float32(-math.log(temperature))
    text, text_len = jnp.asarray(io["in.input_ids"]), jnp.asarray(io["in.attention_mask"].sum(1))
    states = jax.jit(apply_text)(side["text"], text, text_len)
    np.testing.assert_allclose(states, io["mid.text_last_hidden_state"], atol=1e-5)
    frames, frames_len = jnp.asarray(io["mid.encoder_out"]), jnp.asarray(io["mid.encoder_out_lens"])

    def outputs_of(side):
        params = {**side, "encoder": encoder, "logit_scale": log_scale}
        audio = apply(params, frames, frames_len, method="pool_audio")
        embeds = apply(params, text, text_len, method="embed_text")
        return {"audio_embed_BD": audio, "text_embed_BD": embeds, "logit_scale": log_scale}

    outputs = jax.jit(outputs_of)(side)
    np.testing.assert_allclose(outputs["audio_embed_BD"], io["out.audio_embeds"], atol=1e-6)
    np.testing.assert_allclose(outputs["text_embed_BD"], io["out.text_embeds"], atol=1e-6)
    for loss, ours in clap.LOSSES.items():
        for regularised in clap.REGULARISED:
            value = clap.clip_loss(outputs, ours, regularised, temperature)
            assert float(value) == pytest.approx(float(io[f"out.loss.{loss}.{regularised}"]), rel=1e-5)
    gradient = jax.jit(jax.grad(lambda side: clap.clip_loss(outputs_of(side), "info_nce", "reg", temperature)))(side)
    gradients_agree(to_torch(gradient, "clap"), "clap_text_side")


def gradients_agree(found, name):
    expected = load_file(GOLDEN / name / "grads.safetensors")
    largest = max(np.abs(value).max() for value in expected.values())
    lines = [compare_gradient(name, tensor, found[tensor], expected[tensor], largest) for tensor in expected]
    assert not [str(line) for line in lines if not line.ok]


@pytest.mark.parametrize(("name", "modes"), [("caption_a_decoder", ["mixed"]), ("caption_b_decoder", ["ar", "mixed"])])
def test_decoder_equals_the_reference(name, modes):
    settings, io, weights = vectors(name)
    config = caption_config(settings["caption_config"], settings["vocab_size"])
    width = max(config.encoder.encoder_dim)
    init, apply = functionalize(lambda rngs: CaptionDecoder(config.decoder, width, rngs=rngs))
    like = {"decoder": jax.eval_shape(init, jax.random.key(0))}
    params = from_torch(weights, like, "audio-caption")["decoder"]
    frames, frames_len = jnp.asarray(io["mid.encoder_out"]), jnp.asarray((~io["mid.memory_key_padding_mask"]).sum(1))
    smoothing = settings["caption_config"]["label_smoothing"]
    objective = make_captioning(ObjectiveConfig(label_smoothing=smoothing), SpecialTokens(**settings["special_ids"]))
    for mode in modes:
        inside, causal = ~io[f"{mode}.tgt_pad_mask"], io[f"{mode}.tgt_mask"].any((1, 2))
        inputs = {
            "decoder_in_BL": io[f"{mode}.tgt_in"],
            "decoder_len_B": inside.sum(1),
            "causal_B": causal,
            "targets_BL": io[f"{mode}.tgt_out"],
        }
        inputs = {key: jnp.asarray(value) for key, value in inputs.items()}

        def loss(params, inputs=inputs):
            decoder_inputs = (inputs["decoder_in_BL"], inputs["decoder_len_B"], inputs["causal_B"])
            logits = apply(params, *decoder_inputs, frames, frames_len)
            batch = {"mask": jnp.ones(len(logits), bool)}
            return objective.loss({"logits_BLV": logits}, inputs, batch)[0], logits

        (value, logits), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        expected = io[f"{mode}.logits"]
        np.testing.assert_allclose(logits, expected, atol=1e-5 * max(1.0, float(np.sqrt(np.mean(expected**2)))))
        assert float(value) == pytest.approx(float(io[f"{mode}.loss"]), rel=1e-5)
    gradients_agree(to_torch({"decoder": gradient}, "audio-caption"), name)
    generate = jax.jit(apply, static_argnames=("method", "max_length"))
    ids = Ids(**{key: settings["special_ids"][key] for key in ("bos", "eos", "pad")})
    tokens = generate(params, frames, frames_len, method="generate", max_length=12, ids=ids)
    np.testing.assert_array_equal(tokens, io["greedy.tokens"])


@pytest.fixture
def folder(tmp_path):
    """Two good cases and one of a kind that nobody knows."""
    for name in ("first", "nested/second"):
        shutil.copytree(GOLDEN / "spec_augment", tmp_path / name)
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "config.json").write_text('{"kind": "strange"}')
    return tmp_path


def run(capsys, *arguments):
    code = main(["golden", *map(str, arguments)])
    out, err = capsys.readouterr()
    lines = out.splitlines()
    return code, json.loads(lines[-1]) if lines else None, lines[:-1], err


def test_a_folder_with_an_unknown_kind_fails_unless_it_is_skipped(folder, capsys):
    code, summary, lines, err = run(capsys, "--dir", folder)
    assert (code, summary["cases"], summary["failed"], summary["failures"]) == (1, 3, 1, ["strange"])
    assert "1 of 3 cases failed: strange" in err
    assert sum(line.endswith(" ok") for line in lines) == summary["tensors"] == 4
    assert any("no checker" in line and line.endswith("FAIL") for line in lines)
    code, summary, _, _ = run(capsys, "--dir", folder, "--skip", "strange,nested")
    assert (code, summary["cases"], summary["failed"]) == (0, 1, 0)
    assert summary["skipped"] == ["nested/second", "strange"]


def test_cases_are_chosen_by_name_and_json_is_printed_once(folder, capsys):
    code, summary, lines, _ = run(capsys, "--dir", folder, "--case", "nested/second", "--json")
    assert (code, summary["cases"], lines) == (0, 1, [])
    code, summary, lines, _ = run(capsys, "--dir", folder, "--json")
    assert (code, summary["failed"], lines) == (1, 1, [])


def test_a_changed_number_fails_and_is_shown(folder, capsys):
    path = folder / "first" / "io.safetensors"
    arrays = load_file(path)
    arrays["warp0"][3, 4] += 1e-3
    save_file(arrays, path)
    code, summary, lines, _ = run(capsys, "--dir", folder, "--case", "first")
    assert (code, summary["failed"]) == (1, 1)
    assert summary["largest_difference"]["first"] == pytest.approx(1e-3, rel=0.1)
    assert [line.split()[1] for line in lines if line.endswith("FAIL")] == ["warp0"]


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_case_with_unusable_files_fails_and_the_others_still_run(folder, capsys, damage):
    path = folder / "first" / "io.safetensors"
    data = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    code, summary, lines, _ = run(capsys, "--dir", folder, "--skip", "strange")
    assert (code, summary["failures"], summary["cases"]) == (1, ["first"], 2)
    assert any("io.safetensors cannot be read" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--case", "frist"], "--case frist: no such case (did you mean 'first'?)"),
        (["--skip", "stranger"], "--skip stranger: no such case"),
    ],
)
def test_misspelt_cases_are_bad_usage(folder, capsys, arguments, message):
    code, summary, _, err = run(capsys, "--dir", folder, *arguments)
    assert (code, summary) == (2, None)
    assert message in err


def test_a_folder_without_cases_is_bad_usage(tmp_path, capsys):
    assert run(capsys, "--dir", tmp_path)[0] == 2
    assert run(capsys, "--dir", tmp_path / "absent")[0] == 2


def test_lines_fail_on_shapes_and_on_what_is_not_a_number():
    assert compare("c", "t", [1.0, 2.0], [1.0, 2.00005]).ok
    assert not compare("c", "t", [1.0, 2.0], [1.0, 2.0002]).ok
    assert compare("c", "t", [100.0], [100.005], relative=True).ok
    assert not compare("c", "t", [100.0], [100.02], relative=True).ok
    assert compare("c", "t", [1.0], [[1.0]]).difference == math.inf
    assert not compare("c", "t", [math.nan], [1.0]).ok
    assert not Line("c", "t", math.nan, 1.0).ok
