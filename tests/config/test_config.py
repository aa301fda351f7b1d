"""Configurations resolve exactly or fail with the name of the key."""

import importlib.util
import pathlib

import pytest

from alp_jax.config import MODELS, ConfigError, RunConfig, format_count, parse_count, resolve, to_config_dict, to_dict

ROOT = pathlib.Path(__file__).parents[2]


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "configs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_round_trip_through_dictionaries():
    for model in MODELS.values():
        config = RunConfig(model=model)
        assert resolve(to_dict(config)) == config
        assert resolve(to_config_dict(config).to_dict()) == config


@pytest.mark.parametrize(
    ("argument", "pairs"), [("pairs=400k", 400_000), ("pairs=10m", 10_000_000), ("pairs=1.5m", 1_500_000), ("", 0)]
)
def test_pretrain_takes_any_rung(argument, pairs):
    assert resolve(load("pretrain").get_config(argument).to_dict()).data.pairs == pairs


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("objektive=contrastive", "nearest: 'objective'"),
        ("objective=captionin", "nearest: 'captioning'"),
        ("model=zipfromer_m", "nearest: 'zipformer_m'"),
        ("pairs=many", "not a count"),
        ("pairs", "write pairs=VALUE"),
        ("pairs=1k,pairs=2k", "given twice"),
    ],
)
def test_pretrain_refuses(argument, message):
    with pytest.raises(ConfigError, match=message):
        load("pretrain").get_config(argument)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optim": {"lrr": 1.0}}, r"config\.optim\.lrr \(nearest: config\.optim\.lr\)"),
        ({"optim": {"lr": "fast"}}, r"config\.optim\.lr: expected float, got 'fast'"),
        ({"seed": 1.5}, r"config\.seed: expected int"),
        ({"seed": True}, r"config\.seed: expected int"),
        ({"model": {"encoder": {"encoder_dim": [1, "x"]}}}, r"encoder_dim\[1\]"),
        ({"model": {"encoder": {"frontend_channels": [1, 2]}}}, "expected 3 values"),
        ({"data": 3}, r"config\.data: expected settings"),
    ],
)
def test_resolve_names_the_key(change, message):
    with pytest.raises(ConfigError, match=message):
        resolve(change)


def test_an_unknown_override_fails():
    with pytest.raises(AttributeError, match="Did you mean"):
        to_config_dict(RunConfig()).train.stepz = 3


@pytest.mark.parametrize(("text", "value"), [("400k", 400_000), ("1m", 10**6), ("7", 7), ("all", 0)])
def test_counts_round_trip(text, value):
    assert parse_count(text) == value
    assert format_count(value) == text
