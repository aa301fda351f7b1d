"""Every objective says what it needs, costs and logs, and refuses what it cannot be learnt with."""

import jax
import pytest

from alp_jax.config import ConfigError, RunConfig
from alp_jax.config.schema import DataConfig, MeshConfig, ObjectiveConfig
from alp_jax.config.schema.objective import OBJECTIVES
from alp_jax.objectives.base import SpecialTokens
from alp_jax.objectives.registry import check_objective, make_objective, objective_spec
from alp_jax.parallel.mesh import make_mesh


def run(objective="contrastive", **data):
    return RunConfig(objective=ObjectiveConfig(name=objective), data=DataConfig(**data))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_file_of_its_name_says_what_it_is(name):
    assert objective_spec(name).name == name


@pytest.mark.parametrize("objective", ["contrastive", "hybrid"])
def test_one_clip_has_no_negatives(objective):
    why = rf"clips_per_batch is 1: it must be 2 or more, or 0.*objective {objective} compares"
    with pytest.raises(ConfigError, match=rf"config\.data\.{why}"):
        check_objective(run(objective, clips_per_batch=1, clips_multiple=1))
    check_objective(run("captioning", clips_per_batch=1, clips_multiple=1))
    check_objective(run("tagging", clips_per_batch=1, clips_multiple=1))
    check_objective(run(objective, clips_per_batch=2, clips_multiple=1))


@pytest.mark.parametrize(
    "data", [{}, {"bucket_seconds": ()}, {"bucket_seconds": (10.0, 25.0)}, {"bucket_seconds": (), "crop_seconds": 26.0}]
)
def test_how_many_clips_fit_the_seconds_is_for_the_data_to_say(data):
    """Its longest clips may be shorter than the longest bucket, which then is not used."""
    check_objective(run(batch_seconds=20.0, clips_multiple=1, **data))


@pytest.mark.parametrize("objective", ["contrastive", "hybrid"])
def test_a_temperature_that_the_limit_forbids_is_refused(objective):
    def at(name=objective, **settings):
        return RunConfig(objective=ObjectiveConfig(name=name, **settings))

    with pytest.raises(
        ConfigError, match=r"temperature is 0\.005: it must be at least 0\.01, which is 1 / .*max_logit"
    ):
        check_objective(at(temperature=0.005))
    with pytest.raises(ConfigError, match=r"temperature is 0\.07: it must be at least 0\.1,"):
        check_objective(at(temperature=0.07, max_logit_scale=10.0, learn_temperature=False))
    for limit in (3.0, 7.0, 30.0, 49.0, 100.0):
        check_objective(at(temperature=1 / limit, max_logit_scale=limit))
    check_objective(at(temperature=0.005, max_logit_scale=200.0))
    check_objective(at("captioning", temperature=0.005))


def test_a_model_without_a_text_side_has_nothing_to_train():
    with pytest.raises(
        ConfigError, match=r"objective\.name is none: .* imported .* choose contrastive, captioning, hyb"
    ):
        check_objective(run("none"))


def shapes(dtype, **sizes):
    return {name: jax.ShapeDtypeStruct(size, dtype) for name, size in sizes.items()}


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "contrastive"},
        {"name": "contrastive", "loss": "siglip", "learn_bias": True, "embed_reg": 0.5},
        {"name": "captioning"},
        {"name": "hybrid", "embed_reg": 0.5},
        {"name": "tagging"},
    ],
)
def test_an_objective_states_what_it_logs(settings):
    config = ObjectiveConfig(**settings)
    objective = make_objective(config, SpecialTokens(0, 1, 2, 3), make_mesh(MeshConfig(), jax.devices()[:1]))
    batch = shapes("int32", text=(4, 6), text_len=(4,), recording=(4,), caption_group=(4,))
    batch |= shapes("bool", mask=(4,), tags=(4, 5))
    outputs = shapes("float32", audio_embed_BD=(4, 8), text_embed_BD=(4, 8), logit_scale=(), logit_bias=())
    outputs |= shapes("float32", decoded_BLD=(4, 7, 3), vocab_DV=(3, 9), tag_logits_BV=(4, 5))

    def loss(outputs, batch):
        return objective.loss(outputs, objective.prepare(batch, jax.random.key(0)), batch)

    spec = objective_spec(config.name)
    assert set(jax.eval_shape(loss, outputs, batch)[1]) == set(spec.metrics(config))
    assert objective.coupled == spec.coupled == (config.name in ("contrastive", "hybrid"))
