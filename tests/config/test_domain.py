"""Every setting says what it means and which values it may have; others are refused by name."""

import dataclasses
import math
import typing

import pytest

from alp_jax.config import MODELS, ConfigError, RunConfig, resolve, to_dict
from alp_jax.config.domain import Domain, check_domains, settings_of
from alp_jax.config.schema import ClusterConfig
from alp_jax.data.order.batch_plan import READS
from alp_jax.data.text.normalise import CLEAN_UPS
from alp_jax.evaluation.captioning.locked_decoder import TRAINS
from alp_jax.features.logmel import WINDOW
from alp_jax.models.decoder import ACTIVATIONS
from alp_jax.models.encoder_spec import REMAT
from alp_jax.objectives.contrastive import LOSSES, REDUCTIONS
from alp_jax.optim.optimizer import KINDS as AVERAGES
from alp_jax.optim.optimizer import OPTIMIZERS, SCHEDULES

SETTINGS = [*settings_of(RunConfig), *settings_of(ClusterConfig, "cluster.")]


def changed(name, value):
    """The default configuration with the setting ``name`` at ``value``, as a config file may build it."""
    *sections, last = name.split(".")
    parts = [RunConfig()]
    for section in sections:
        parts.append(getattr(parts[-1], section))
    for part, key in zip(reversed(parts), reversed([*sections, last]), strict=True):
        value = dataclasses.replace(part, **{key: value})
    return value


def is_number(setting):
    item = typing.get_args(setting.kind)[0] if typing.get_origin(setting.kind) is tuple else setting.kind
    return item in (int, float)


def test_every_setting_has_a_meaning_and_every_number_a_range():
    assert len(SETTINGS) == 187 + 6
    for setting in SETTINGS:
        assert len(setting.domain.meaning) > 8, setting.name
        if is_number(setting):
            assert setting.domain.range(), f"{setting.name} is a number of any size"


def test_defaults_and_presets_are_within_their_ranges():
    for model in MODELS.values():
        check_domains(RunConfig(model=model))
    check_domains(ClusterConfig())


@pytest.mark.parametrize("setting", [s for s in settings_of(RunConfig) if is_number(s)], ids=lambda s: s.name)
def test_a_number_out_of_its_range_or_not_finite_or_a_bool_is_refused(setting):
    domain = setting.domain
    lowest = domain.low if domain.low is not None else domain.above
    wrong = [lowest - 2.5] + ([] if domain.above is None else [domain.above])
    if domain.high is not None or domain.below is not None:
        wrong.append(domain.high + 1 if domain.high is not None else domain.below)
    for value in [*wrong, math.nan, math.inf, -math.inf, True, False]:
        value = (*setting.default[:-1], value) if isinstance(setting.default, tuple) else value
        with pytest.raises(ConfigError, match=rf"^config\.{setting.name} is .*must be .*{domain.range()[:5]}"):
            check_domains(changed(setting.name, value))


@pytest.mark.parametrize("name", ["data.bucket_seconds", "data.crop_seconds", "evaluation.max_seconds"])
def test_a_row_is_no_shorter_than_the_window_of_a_frame(name):
    many = name.endswith("bucket_seconds")
    shortest = WINDOW / 16_000
    check_domains(changed(name, (shortest, 1.0) if many else shortest))
    with pytest.raises(ConfigError, match=rf"config\.{name} is .*must be 0\.025 or more"):
        check_domains(changed(name, (0.024, 1.0) if many else 0.024))


def test_choices_are_those_of_the_code_that_reads_them():
    choices = {one.name: one.domain.choices for one in settings_of(RunConfig) if one.domain.choices}
    readers = {
        "data.text_clean": CLEAN_UPS,
        "data.read": READS,
        "model.remat": REMAT,
        "model.decoder.decoder_activation": ACTIVATIONS,
        "objective.loss": LOSSES,
        "objective.reduction": REDUCTIONS,
        "optim.name": OPTIMIZERS,
        "optim.schedule": SCHEDULES,
        "train.average": AVERAGES,
        "evaluation.lit_decoder_trains": TRAINS,
    }
    assert {name: tuple(known) for name, known in readers.items()} == {name: choices[name] for name in readers}
    others = {
        "model.encoder_kind",  # these two are looked up by their file's name
        "objective.name",
        "model.compute_dtype",
        *(f"model.{part}_form" for part in ("depthwise", "frontend", "position", "swoosh")),
    }
    assert set(choices) == set(readers) | others
    with pytest.raises(ConfigError, match=r"config\.optim\.schedule is 'linear': it must be one of cosine, eden"):
        check_domains(changed("optim.schedule", "linear"))


@pytest.mark.parametrize(
    ("domain", "text"),
    [
        (Domain("", low=0), "0 or more"),
        (Domain("", above=0), "above 0"),
        (Domain("", low=0, high=1), "0 to 1"),
        (Domain("", low=0, below=1), "at least 0 and below 1"),
        (Domain("", above=0, high=8000), "above 0 and at most 8000"),
        (Domain("", low=1, also=(-1,)), "1 or more, or -1"),
        (Domain("", low=0, high=2**31 - 1), "0 to 2_147_483_647"),
        (Domain("", choices=("a", "b")), "one of a, b"),
        (Domain(""), ""),
    ],
)
def test_ranges_in_words(domain, text):
    assert domain.range() == text


def test_numbers_that_mean_something_of_their_own_are_allowed():
    check_domains(changed("mesh.fsdp", -1))
    check_domains(changed("model.encoder.chunk_size", (16, -1)))
    with pytest.raises(ConfigError, match=r"mesh\.fsdp is -2: it must be 1 or more, or -1 \(devices\)"):
        check_domains(changed("mesh.fsdp", -2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optim": {"lr": True}}, r"config\.optim\.lr: expected float, got True"),
        ({"train": {"steps": 10.0}}, r"config\.train\.steps: expected int, got 10\.0"),
        ({"model": {"regularise": 1}}, r"config\.model\.regularise: expected bool, got 1"),
        ({"data": {"bucket_seconds": [1, True]}}, r"bucket_seconds\[1\]: expected float"),
    ],
)
def test_a_value_of_another_kind_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        resolve(change)


def test_a_stored_configuration_is_read_whatever_its_numbers():
    """Runs that earlier versions made are still evaluated."""
    stored = to_dict(changed("optim.lr", -0.01))
    assert resolve(stored).optim.lr == -0.01
