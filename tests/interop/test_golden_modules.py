"""Modules in training against the reference: output and every gradient, with all regularisers at work."""

import json
import pathlib

import jax
import numpy as np
import pytest

from alp_jax.config.schema import ZipformerConfig
from alp_jax.interop.golden.case import find_cases
from alp_jax.interop.golden.runner import run_case
from alp_jax.interop.golden.start_values import DEVIATIONS, standard_errors
from alp_jax.interop.names import to_torch
from alp_jax.models.functional import functionalize
from alp_jax.models.zipformer import Zipformer

GOLDEN = pathlib.Path(__file__).parent / "golden"
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


@pytest.fixture(scope="module")
def one_stack():
    config = ZipformerConfig(
        num_encoder_layers=(2,),
        downsampling_factor=(1,),
        encoder_dim=(192,),
        encoder_unmasked_dim=(192,),
        feedforward_dim=(576,),
        num_heads=(4,),
        cnn_module_kernel=(31,),
    )
    init, _ = functionalize(lambda rngs: Zipformer(config, rngs=rngs))
    return jax.jit(init)(jax.random.key(1))


def test_start_values_have_the_distribution_of_the_reference(one_stack):
    found = to_torch(one_stack, "zipformer")
    table = json.loads((pathlib.Path(__file__).parents[1] / "models" / "golden" / "init_stats.json").read_text())
    worst = {name: standard_errors(found[name], row) for name, row in table.items()}
    assert max(worst.values()) < DEVIATIONS, max(worst, key=worst.get)
    assert len(worst) == 60
    name = "encoder.encoders.0.layers.0.conv_module1.out_proj.weight"
    assert standard_errors(found[name] * 1.05, table[name]) > DEVIATIONS
    normal = np.random.default_rng(0).normal(size=found[name].shape) * table[name]["std"]
    assert standard_errors(normal, table[name]) > DEVIATIONS


def test_layers_of_a_stack_start_alike(one_stack):
    first, second = (jax.tree.leaves(one_stack["encoders"]["0"]["layers"][i]) for i in "01")
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
