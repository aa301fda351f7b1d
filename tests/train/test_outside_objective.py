"""An objective of another distribution: one file, found through an entry point, is learnt as ours are."""

import dataclasses
import json
import sys
import textwrap

import pytest

from alp_jax.config import ConfigError
from alp_jax.config.flags import load_config
from alp_jax.config.schema.model import TEXT
from alp_jax.core.errors import UserError
from alp_jax.models.accounting import train_flops
from alp_jax.objectives.registry import check_objective, objective_spec, sides_of
from alp_jax.parallel.mesh import make_mesh
from alp_jax.planning.program import make_program
from alp_jax.planning.topology import devices, parse
from alp_jax.train.evaluate import eval_model
from alp_jax.train.loop import train

TOY = '''
"""A clip and its caption at the same place: without negatives, so everything may fall together."""

import jax.numpy as jnp

from alp_jax.config.schema.model import TEXT
from alp_jax.objectives.base import Objective, ObjectiveSpec, Reduced
from alp_jax.objectives.contrastive import wrap_caption


def make(config, tokens, mesh):
    def prepare(batch, key):
        text_BL, text_len_B = wrap_caption(batch["text"], batch["text_len"], tokens)
        return {"text_BL": text_BL, "text_len_B": text_len_B}

    def reduce(outputs, inputs):
        apart_BD = outputs["audio_embed_BD"] - outputs["text_embed_BD"]
        return Reduced({"distance_B": jnp.sum(jnp.square(apart_BD), 1)}, {})

    def combine(reduced, inputs, batch):
        weight_B = batch["mask"].astype(jnp.float32)
        distance = jnp.sum(reduced.rows["distance_B"] * weight_B) / jnp.sum(weight_B)
        return distance, {"distance": distance}

    return Objective(prepare, reduce, combine)


SPEC = ObjectiveSpec("match", sides=(TEXT,), make=make, metrics=lambda config: ("distance",))
'''


@pytest.fixture
def match(tmp_path_factory, monkeypatch):
    """Puts a distribution with the objective on sys.path; returns its folder."""
    root = tmp_path_factory.mktemp("dist")
    (root / "toy-1.dist-info").mkdir()
    (root / "toy-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1\n")
    (root / "toy-1.dist-info" / "entry_points.txt").write_text("[alp_jax.objectives]\nmatch = toy_objective:SPEC\n")
    (root / "toy_objective.py").write_text(textwrap.dedent(TOY))
    monkeypatch.syspath_prepend(str(root))
    yield root
    sys.modules.pop("toy_objective", None)


def test_it_is_learnt_goes_on_and_is_planned(match, tiny, tmp_path):
    config = tiny("match", mesh={"data": 8, "fsdp": 1, "tensor": 1}, train={"steps": 6, "save_every": 3})
    check_objective(config)
    summary = train(config, tmp_path / "run")
    longer = dataclasses.replace(config, train=dataclasses.replace(config.train, steps=9))
    train(longer, tmp_path / "run", extend=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(9))
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert all(line["distance"] == line["loss"] for line in lines)
    assert summary["flops"] == pytest.approx(6 * 16 * train_flops(config.model, (TEXT,), 1.2, 12))
    assert eval_model(tmp_path / "run")[0].compares_text
    program = make_program(config, make_mesh(config.mesh, devices(parse("cpu:8"))))
    assert program.parameters == summary["params"]


def test_it_is_chosen_by_name(match):
    found = load_config("configs/small.py:objective=match", [])
    assert sides_of(found.objective) == (TEXT,)
    with pytest.raises(ConfigError, match=r"objective 'mach' \(nearest: 'match'"):
        load_config("configs/pretrain.py:objective=mach", [])


def test_what_is_no_objective_fails_loudly(match, tiny):
    (match / "toy-1.dist-info" / "entry_points.txt").write_text("[alp_jax.objectives]\nmatch = toy_objective:TEXT\n")
    with pytest.raises(
        UserError, match=r"entry point 'match' of alp_jax\.objectives is not an ObjectiveSpec of that name"
    ):
        objective_spec("match")
    (match / "toy-1.dist-info" / "entry_points.txt").write_text("[alp_jax.objectives]\nhybrid = toy_objective:SPEC\n")
    with pytest.raises(UserError, match=r"entry point 'hybrid' of distribution 'toy' .* clashes with a built-in name"):
        objective_spec("match")
