"""An encoder of another distribution: one file, found through an entry point, goes all the way ours go."""

import dataclasses
import json
import sys
import textwrap

import jax
import numpy as np
import pytest

from alp_jax.cli.main import main
from alp_jax.config import MODELS, ConfigError, resolve, to_dict
from alp_jax.config.flags import load_config
from alp_jax.config.outside import Settings
from alp_jax.core.errors import UserError
from alp_jax.models import encoders
from alp_jax.models.encoders import encoder_settings, encoder_spec, make_encoder, output_dim
from alp_jax.parallel.mesh import make_mesh
from alp_jax.planning.layers import by_layers
from alp_jax.planning.program import buckets, make_program
from alp_jax.planning.topology import devices, parse
from alp_jax.train.evaluate import eval_model
from alp_jax.train.loop import train

TOY = '''
"""Four frames at a time through one layer."""

import dataclasses

import jax.numpy as jnp
from flax import nnx

from alp_jax.config.domain import setting
from alp_jax.config.outside import Settings
from alp_jax.config.schema import ModelConfig
from alp_jax.models.encoder_spec import EncoderSpec, linear_cost
from alp_jax.models.regularisers import DrawCounts
from alp_jax.models.transformer import linear, valid_mask

STRIDE = 4


@dataclasses.dataclass(frozen=True)
class ToyConfig:
    feature_dim: int = setting(80, "mel bins of a frame", unit="mel bins", low=1)
    width: int = setting(8, "width of the frames", unit="channels", low=1, high=64)


class Toy(nnx.Module):
    def __init__(self, config, *, rngs, dtype):
        self.draw_counts = DrawCounts()
        self.proj = linear(STRIDE * config.feature_dim, config.width, rngs=rngs, dtype=dtype)

    def __call__(self, mel_BTF, len_B, *, padding="exact", train=None):
        clips, length, bins = mel_BTF.shape
        mel_BTF = jnp.where(valid_mask(len_B, length)[:, :, None], mel_BTF, 0)
        mel_BTF = jnp.pad(mel_BTF, ((0, 0), (0, -length % STRIDE), (0, 0)))
        return self.proj(mel_BTF.reshape(clips, -1, STRIDE * bins)), -(-len_B // STRIDE)


SPEC = EncoderSpec(
    kind="toy",
    settings=ToyConfig,
    make=lambda config, model, **kw: Toy(config, **kw),
    width=lambda config: config.width,
    frames=lambda config, mel_frames: -(-mel_frames // STRIDE),
    cost=lambda config, mel_frames: linear_cost(-(-mel_frames // STRIDE), STRIDE * config.feature_dim, config.width),
    presets={"toy_s": ModelConfig(encoder_kind="toy", encoder_settings=Settings.of(ToyConfig(width=6)))},
)
'''


@pytest.fixture
def toy(tmp_path_factory, monkeypatch):
    """Puts a distribution with the encoder on sys.path; returns its folder."""
    root = tmp_path_factory.mktemp("dist")
    (root / "toy-1.dist-info").mkdir()
    (root / "toy-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1\n")
    (root / "toy-1.dist-info" / "entry_points.txt").write_text("[alp_jax.encoders]\ntoy = toy_encoder:SPEC\n")
    (root / "toy_encoder.py").write_text(textwrap.dedent(TOY))
    monkeypatch.syspath_prepend(str(root))
    encoders._outside.cache_clear()
    yield root
    sys.modules.pop("toy_encoder", None)
    encoders._outside.cache_clear()


@pytest.fixture
def config(toy, tiny):
    settings = {"encoder_kind": "toy", "encoder_settings": Settings({"width": 12}), "name": "toy"}
    return tiny(model=settings, mesh={"data": 8, "fsdp": 1, "tensor": 1}, train={"steps": 6, "save_every": 3})


def test_it_is_listed_with_its_own_parameters_and_operations(toy, capsys):
    assert main(["models", "--seconds", "10", "--json"]) == 0
    (row,) = [row for row in json.loads(capsys.readouterr().out)["models"] if row["kind"] == "toy"]
    assert (row["model"], row["parameters"], row["width"], row["frames"]) == ("toy_s", (4 * 80 + 1) * 6, 6, 250)
    assert row["flops"] == 2.0 * 250 * 4 * 80 * 6
    assert MODELS["toy_s"].name == "toy_s"


def test_its_settings_are_flags_with_types_and_ranges_of_its_own(toy):
    preset = "configs/small.py:model=toy_s"
    found = load_config(preset, ["--config.model.encoder_settings.width=5"])
    assert (found.model.encoder_kind, encoder_settings(found.model).width, output_dim(found.model)) == ("toy", 5, 5)
    assert resolve(json.loads(json.dumps(to_dict(found)))) == found
    assert hash(found.model) != hash(load_config(preset, []).model)
    for settings, message in (
        ({"witdh": 3}, r"config\.model\.encoder_settings\.witdh \(nearest: config\.model\.encoder_settings\.width\)"),
        ({"width": "3"}, r"config\.model\.encoder_settings\.width: expected int, got '3'"),
        ({"width": 65}, r"config\.model\.encoder_settings\.width is 65: it must be 1 to 64 \(channels\)"),
    ):
        model = dataclasses.replace(found.model, encoder_settings=Settings(settings))
        with pytest.raises(ConfigError, match=message):
            encoder_settings(model)


def test_it_trains_goes_on_embeds_and_is_planned(config, tmp_path, capsys):
    first = json.loads(json.dumps(train(config, tmp_path / "run")))
    longer = dataclasses.replace(config, train=dataclasses.replace(config.train, steps=9))
    assert train(longer, tmp_path / "run", extend=True)["params"] == first["params"]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(9))
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model"]["encoder_settings"] == {"width": 12}

    model = eval_model(tmp_path / "run")[0]
    audio = np.random.default_rng(0).integers(-9000, 9000, (2, 8000)).astype(np.int16)
    frames_BTD, len_B = model.frames(audio, np.array([8000, 4000], np.int32))
    assert frames_BTD.shape == (2, 13, 12)
    assert list(len_B) == [13, 7]
    assert model.pool_audio(frames_BTD, len_B).shape == (2, 16)

    mesh = make_mesh(config.mesh, devices(parse("cpu:8")))
    program, (bucket,) = make_program(config, mesh), buckets(config, mesh)
    assert program.parameters == first["params"]
    with pytest.raises(UserError, match=r"which a toy does not; config\.model is toy: plan"):
        by_layers(config, parse("cpu:8"), program, bucket, print)

    pytest.importorskip("torch")
    capsys.readouterr()
    assert (
        main(["export", "torch", "--run", str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--clips", "1"]) == 2
    )
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("alp: ")]
    assert "config.model.encoder_kind = 'toy' cannot be exported to this format: only zipformer" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("toy = toy_encoder:STRIDE", "entry point 'toy' of alp_jax.encoders is not an EncoderSpec of that kind: 4"),
        ("toy = toy_encoder:MISSING", "entry point 'toy' of distribution 'toy' .* does not load: AttributeError"),
        ("other = toy_encoder:SPEC", r"unknown config\.model\.encoder_kind 'toy'"),
        ("vit = toy_encoder:SPEC", "entry point 'vit' of distribution 'toy' .* clashes with a built-in name"),
    ],
)
def test_what_is_no_encoder_fails_loudly(toy, entry, message):
    (toy / "toy-1.dist-info" / "entry_points.txt").write_text(f"[alp_jax.encoders]\n{entry}\n")
    model = dataclasses.replace(MODELS["vit_xxs"], encoder_kind="toy")
    with pytest.raises(UserError, match=message):
        make_encoder(model, rngs=jax.random.key(0))
    assert encoder_spec(MODELS["vit_xxs"]).kind == "vit"


def test_a_preset_of_a_taken_name_is_refused(toy):
    text = (toy / "toy_encoder.py").read_text()
    (toy / "toy_encoder.py").write_text(text.replace('"toy_s"', '"vit_s"'))
    with pytest.raises(ConfigError, match="encoder 'toy' brings a model preset 'vit_s', a name that is taken"):
        list(MODELS)


def test_an_entry_point_without_presets_is_refused(toy):
    (toy / "toy-1.dist-info" / "entry_points.txt").write_text("[alp_jax.encoders]\ntoy = toy_encoder:STRIDE\n")
    with pytest.raises(
        ConfigError, match=r"entry point 'toy' of alp_jax\.encoders is not an EncoderSpec: 4 has no presets"
    ):
        list(MODELS)
