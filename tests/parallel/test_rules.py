"""Every parameter of every preset has a place that somebody has looked at."""

import json

import jax
import numpy as np
import pytest

from alp_jax.config.schema import MeshConfig
from alp_jax.parallel.mesh import make_mesh
from alp_jax.parallel.rules import infer_shardings, layout, spec, tactic
from tests.parallel.golden_layout import FOLDER, golden

SIZES = {"data": 1, "fsdp": 2, "tensor": 4}


@pytest.mark.parametrize("preset", ["zipformer_m", "vit_b", "conformer_b"])  # the command checks all of them
def test_the_layout_is_the_golden_one(preset):
    expected, found = json.loads((FOLDER / f"{preset}.json").read_text()), golden(preset)
    changed = {name: (expected.get(name), found.get(name)) for name in expected.keys() | found.keys()}
    changed = {name: both for name, both in changed.items() if both[0] != both[1]}
    assert not changed, f"golden and found differ; python -m tests.parallel.golden_layout writes anew: {changed}"


def test_every_leaf_must_match_a_rule():
    mesh = make_mesh(MeshConfig(1, 8, 1))
    tree = {"params": {"a": {"kernel": jax.ShapeDtypeStruct((24, 4096), np.float32)}}}
    tree["opt"] = {"mu": tree["params"], "count": jax.ShapeDtypeStruct((), np.int32)}
    specs = infer_shardings(tree, mesh)
    assert tuple(specs["params"]["a"]["kernel"].spec) == (None, "fsdp")
    assert tuple(specs["opt"]["mu"]["a"]["kernel"].spec) == (None, "fsdp")
    with pytest.raises(ValueError, match="params/a/surprise"):
        infer_shardings({"params": {"a": {"surprise": jax.ShapeDtypeStruct((3,), np.float32)}}}, mesh)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("params/text/layers/3/intermediate/kernel", (768, 3072), ("fsdp", "tensor")),
        ("opt/1/0/mu/text/layers/3/intermediate/kernel", (768, 3072), ("fsdp", "tensor")),
        ("params/text/layers/3/output/kernel", (3072, 768), ("tensor", "fsdp")),
        ("params/text/layers/3/intermediate/kernel", (768, 3074), (None, "fsdp")),  # 4 does not divide 3074
        ("params/text/layers/3/intermediate/kernel", (767, 3073), (None, None)),
        ("params/decoder/layers/0/self_attn/in_proj/kernel", (768, 2304), (None, "fsdp")),
        ("params/encoder/blocks/0/feed_forward/in_proj/kernel", (768, 2304), ("fsdp", "tensor")),
        ("params/text/embeddings/word_embeddings/embedding", (50000, 768), ("tensor", "fsdp")),
        ("params/text/embeddings/word_embeddings/embedding", (50, 80), ()),  # too small to be worth it
    ],
)
def test_places(name, shape, expected):
    assert tuple(spec(tactic(name), shape, SIZES)) == expected


def test_what_tensor_does_not_divide_is_listed():
    shapes = {"intermediate": {"kernel": np.zeros((64, 66))}, "output": {"kernel": np.zeros((64, 66))}}
    found = layout({"params": {"text": shapes}}, SIZES)
    assert [name for name, leaf in found.items() if leaf.get("undivided")] == ["params/text/intermediate/kernel"]
