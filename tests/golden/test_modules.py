"""Modules in training against the reference: output and every gradient, with all regularisers at work."""

import json
import pathlib

import numpy as np
import pytest

from alp_jax.config.schema import TextTowerConfig, ZipformerConfig
from alp_jax.golden import start_values
from alp_jax.golden.case import find_cases
from alp_jax.golden.runner import run_case

GOLDEN = pathlib.Path(__file__).parent / "vectors"
START_VALUES = json.loads((GOLDEN / "start_values.json").read_text())
CASES = {case.name: case for case in find_cases(GOLDEN / "modules")}


@pytest.mark.parametrize("name", sorted(CASES))
def test_module_equals_the_reference_forward_and_backward(name):
    result = run_case(CASES[name])
    assert result.ok, (result.problem, [str(line) for line in result.lines if not line.ok])


def test_every_schedule_of_the_default_encoder_is_in_its_place():
    (case,) = find_cases(GOLDEN / "schedules")
    lines = [line for line in run_case(case).lines if not line.tensor.startswith("schedules only here")]
    assert len(lines) == 5 + 40
    assert all(line.ok for line in lines), [str(line) for line in lines if not line.ok]


def test_start_values_have_the_distribution_of_the_reference(tmp_path, monkeypatch):
    """Those of one stack of the default model, whose layers start alike; the text side is of no matter."""
    encoder = ZipformerConfig(
        num_encoder_layers=(2,),
        downsampling_factor=(1,),
        encoder_dim=(192,),
        encoder_unmasked_dim=(192,),
        feedforward_dim=(576,),
        num_heads=(4,),
        cnn_module_kernel=(31,),
    )
    text = TextTowerConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    monkeypatch.setattr(start_values, "_TEXT", text)
    objective, _, kind, prefix = start_values._PARTS["zipformer_default"]
    monkeypatch.setitem(start_values._PARTS, "zipformer_default", (objective, encoder, kind, prefix))
    (tmp_path / "init_stats.json").write_text(json.dumps({"zipformer_default": START_VALUES}))
    (case,) = find_cases(tmp_path)
    result = run_case(case)
    assert len(result.lines) == 60 + 1
    assert result.ok, (result.problem, [str(line) for line in result.lines if not line.ok])


def test_another_distribution_of_start_values_is_told_apart():
    row, rng = START_VALUES["encoder.encoders.0.layers.0.conv_module1.out_proj.weight"], np.random.default_rng(0)
    bound = 3**0.5 * row["std"]
    uniform = rng.uniform(-bound, bound, row["shape"])
    assert start_values.standard_errors(uniform, row) < start_values.DEVIATIONS
    assert start_values.standard_errors(1.05 * uniform, row) > start_values.DEVIATIONS
    assert start_values.standard_errors(rng.normal(size=row["shape"]) * row["std"], row) > start_values.DEVIATIONS
