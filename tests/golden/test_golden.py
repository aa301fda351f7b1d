"""The golden verb and its parts, and parity of a second kind of decoder with recorded reference vectors."""

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
from alp_jax.config.schema import MeshConfig, ObjectiveConfig
from alp_jax.golden.compare import Line, compare, compare_gradient
from alp_jax.interop.formats.names import from_torch, to_torch
from alp_jax.interop.formats.reference import caption_config
from alp_jax.models.decoder import CaptionDecoder
from alp_jax.models.decoding import Ids
from alp_jax.models.functional import functionalize
from alp_jax.objectives.base import SpecialTokens
from alp_jax.objectives.captioning import make_captioning
from alp_jax.parallel.mesh import make_mesh

GOLDEN = pathlib.Path(__file__).parent / "vectors"


def vectors(name):
    folder = GOLDEN / name
    config = json.loads((folder / "config.json").read_text())
    return config, load_file(folder / "io.safetensors"), load_file(folder / "weights.safetensors")


def gradients_agree(found, name):
    expected = load_file(GOLDEN / name / "grads.safetensors")
    largest = max(np.abs(value).max() for value in expected.values())
    lines = [compare_gradient(name, tensor, found[tensor], expected[tensor], largest) for tensor in expected]
    assert not [str(line) for line in lines if not line.ok]


def test_decoder_with_norms_first_biases_and_tied_embeddings_equals_the_reference():
    name = "caption_b_decoder"
    settings, io, weights = vectors(name)
    config = caption_config(settings["caption_config"], settings["vocab_size"])
    width = max(config.encoder.encoder_dim)
    init, apply = functionalize(lambda rngs: CaptionDecoder(config.decoder, width, rngs=rngs))
    like = {"decoder": jax.eval_shape(init, jax.random.key(0))}
    params = from_torch(weights, like, "audio-caption")["decoder"]
    frames, frames_len = jnp.asarray(io["mid.encoder_out"]), jnp.asarray((~io["mid.memory_key_padding_mask"]).sum(1))
    smoothing = settings["caption_config"]["label_smoothing"]
    objective = make_captioning(
        ObjectiveConfig(label_smoothing=smoothing),
        SpecialTokens(**settings["special_ids"]),
        make_mesh(MeshConfig(), jax.devices()[:1]),
    )
    for mode in ("ar", "mixed"):
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
            return objective.loss({"decoded_BLD": logits, "vocab_DV": jnp.eye(logits.shape[2])}, inputs, batch)[
                0
            ], logits

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
