"""The paper's runs: every combination resolves, and key settings are those of a table written from the sources."""

import ast
import dataclasses
import importlib.util
import itertools
import pathlib

import pytest

from alp_jax.cli.main import main
from alp_jax.config import MODELS, ConfigError, resolve, schema, to_dict
from alp_jax.core.files import write_json
from alp_jax.data.order.buckets import batch_size, edges
from alp_jax.objectives.base import SpecialTokens
from alp_jax.objectives.registry import make_objective
from alp_jax.optim.optimizer import make_optimizer
from alp_jax.parallel.mesh import make_mesh
from alp_jax.scaling.sweep.plan import load_sweep, plan_runs

FILE = pathlib.Path(__file__).parents[2] / "configs" / "paper.py"
SPEC = importlib.util.spec_from_file_location("paper", FILE)
PAPER = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(PAPER)
START = "runs/audioset"
# source, objective, init -> settings, by their names
EXPECTED = {
    ("paper", "contrastive", "scratch"): {
        "train.steps": 600_000,
        "data.batch_seconds": 5120.0,
        "data.tokenizer": "",
        "data.text_budget": 128,
        "data.text_widths": (),
        "data.text_clean": "clap",
        "model.name": "zipformer_m_768",
        "model.text.vocab_size": 50_000,
        "init_text": "scratch",
        "objective.reduction": "mean",
        "objective.learn_temperature": True,
        "objective.embed_reg": 0.0,
    },
    ("paper", "contrastive", START): {
        "train.steps": 200_000,
        "data.batch_seconds": 5120.0,
        "data.tokenizer": "runs/bert/tokenizer.json",
        "data.text_budget": 128,
        "model.text.vocab_size": 30_522,
        "init": START,
        "init_text": "runs/bert",
    },
    ("paper", "captioning", "scratch"): {
        "train.steps": 600_000,
        "data.text_clean": "audio_caption",
        "data.text_budget": 128,
        "data.text_widths": (0,),
        "model.decoder.vocab_size": 50_000,
        "objective.autoregressive_share": 0.25,
        "init_text": "scratch",
    },
    ("paper", "captioning", START): {
        "train.steps": 200_000,
        "data.tokenizer": "data/bart-base/tokenizer.json",
        "model.decoder.vocab_size": 50_265,
        "init_text": "scratch",
    },
    ("code", "contrastive", "scratch"): {
        "train.steps": 300_000,
        "data.batch_seconds": 4800.0,
        "data.tokenizer": "runs/bert/tokenizer.json",
        "data.text_budget": 28,
        "data.text_clean": "clap",
        "model.name": "zipformer_m",
        "model.text.vocab_size": 30_522,
        "init_text": "runs/bert",
        "objective.reduction": "sum",
        "objective.learn_temperature": False,
        "objective.embed_reg": 1.0,
    },
    ("code", "contrastive", START): {"train.steps": 300_000, "init": START, "init_text": "runs/bert"},
    ("code", "captioning", "scratch"): {
        "train.steps": 300_000,
        "data.batch_seconds": 4800.0,
        "data.text_budget": 128,
        "model.decoder.vocab_size": 50_265,
        "objective.autoregressive_share": 1.0,
        "init_text": "scratch",
    },
    ("code", "captioning", START): {"train.steps": 300_000, "data.tokenizer": "data/bart-base/tokenizer.json"},
}
ALWAYS = {
    "optim.name": "scaled_adam",
    "optim.lr": 0.045,
    "optim.schedule": "eden2",
    "optim.lr_batches": 7500.0,
    "optim.warmup_steps": 500,
    "optim.warmup_start": 0.5,
    "optim.clipping_scale": 2.0,
    "optim.scalar_lr_scale": 0.1,
    "train.average": "running",
    "train.average_period": 200,
    "objective.loss": "info_nce",
    "objective.temperature": 0.07,
    "objective.exclude_duplicates": False,
    "objective.label_smoothing": 0.1,
    "features.num_mel_bins": 80,
    "features.spec_augment.enabled": True,
    "model.shared_emb_dim": 1024,
    "model.text.num_hidden_layers": 12,
    "model.decoder.num_decoder_layers": 6,
    "model.regularise": True,
}
PAIRS = {"400k": 400_000, "1m": 1_000_000, "4m": 4_000_000, "10m": 10_000_000}


def get(config, path):
    for name in path.split("."):
        config = getattr(config, name)
    return config


def configure(argument):
    return resolve(PAPER.get_config(argument).to_dict())


@pytest.mark.parametrize(("key", "pairs"), itertools.product(EXPECTED, PAIRS))
def test_every_run_has_its_settings(key, pairs):
    source, objective, init = key
    config = configure(f"objective={objective},pairs={pairs},init={init},source={source}")
    wanted = {**ALWAYS, **EXPECTED[key], "data.pairs": PAIRS[pairs], "objective.name": objective}
    assert {path: get(config, path) for path in wanted} == wanted
    assert 1 <= len(config.data.bucket_seconds) <= 8


@pytest.mark.parametrize("precision", ["f32", "bf16"])
@pytest.mark.parametrize(("devices", "longest"), [(64, 40.0), (32, 40.0)])
def test_a_batch_has_the_papers_seconds_in_every_bucket_and_divides(precision, devices, longest):
    config = configure(f"devices={devices},precision={precision}")
    assert config.model.compute_dtype == {"f32": "float32", "bf16": "bfloat16"}[precision]
    edges_K = edges(config.data.bucket_seconds)
    batches = [batch_size(edge, config.data) for edge in edges_K.tolist()]
    assert {edge * batch for edge, batch in zip(edges_K.tolist(), batches, strict=True)} == {5120 * 16_000}
    assert all(batch % devices == 0 for batch in batches)
    assert config.data.bucket_seconds[-1] == longest
    assert 10.0 in config.data.bucket_seconds  # most clips


def test_a_run_keeps_a_bounded_number_of_checkpoints():
    for argument, most in (("", 9), (f"init={START}", 5), ("source=code", 6)):
        train = configure(argument).train
        assert train.keep + train.steps // train.keep_every + train.keep_best <= most
        assert train.average == "running"  # in every checkpoint, so that none has to stay for it


@pytest.mark.parametrize("preset", ["zipformer_m", "zipformer_m_768"])
def test_a_start_of_either_width_brings_its_encoder(preset, tmp_path):
    imported = dataclasses.replace(schema.RunConfig(), model=dataclasses.replace(MODELS[preset], name="imported"))
    write_json(tmp_path / "start" / "config.json", to_dict(imported))
    start = str(tmp_path / "start")
    for argument in (f"init={start}", f"init={start},objective=captioning", f"model={start}"):
        assert configure(argument).model.encoder == MODELS[preset].encoder
    assert configure(f"init={start},model=zipformer_m_causal").model.encoder == MODELS["zipformer_m_causal"].encoder
    runs = plan_runs(load_sweep(f"{FILE.parent}/sweeps/paper.py:init={start},precision=bf16"))
    assert len(runs) == 16
    found = [resolve(run.settings).model for run in runs]
    assert {model.encoder for model in found} == {MODELS[preset].encoder}
    assert {model.compute_dtype for model in found} == {"bfloat16"}


def test_encoders_are_as_wide_as_their_sources_say():
    assert max(configure("source=paper").model.encoder.encoder_dim) == 768
    assert configure("source=code").model.encoder == schema.ZipformerConfig()  # the reference's defaults
    assert configure("model=zipformer_m").model.encoder == schema.ZipformerConfig()


@pytest.mark.parametrize(
    ("preset", "objective", "budget"),
    [("shared", "contrastive", 128), ("reference", "contrastive", 28), ("reference", "captioning", 128)],
)
@pytest.mark.parametrize("source", ["paper", "code"])
def test_text_budgets_are_one_preset(source, preset, objective, budget):
    argument = f"source={source},objective={objective},text_budget={preset}"
    assert configure(argument).data.text_budget == budget


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("objective=contrastiv", "unknown objective 'contrastiv' (nearest: 'contrastive'"),
        ("pairs=2m", "unknown pairs '2m' (nearest: "),
        ("source=papr", "unknown source 'papr' (nearest: 'paper'"),
        ("model=zipformer_m_786", "unknown model 'zipformer_m_786' (nearest: 'zipformer_m_768'"),
        ("text_budget=referense", "unknown text_budget 'referense' (nearest: 'reference'"),
        ("precision=fp16", "unknown precision 'fp16' (nearest: "),
        ("devices=65", "unknown devices '65' (nearest: '64'"),
        ("initt=x", "unknown config argument 'initt' (nearest: 'init'"),
    ],
)
def test_unknown_values_name_the_nearest(argument, message):
    with pytest.raises(ConfigError) as error:
        PAPER.get_config(argument)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("source", "objective"), itertools.product(("paper", "code"), ("contrastive", "captioning")))
def test_what_the_settings_name_exists(source, objective):
    config = configure(f"source={source},objective={objective}")
    make_objective(config.objective, SpecialTokens(0, 1, 2, 3), make_mesh(config.mesh))
    make_optimizer(config.optim, config.train.steps)


def test_the_command_line_takes_arguments_and_flags(tmp_path, capsys):
    arguments = ["train", "--workdir", str(tmp_path / "run"), "--config", f"{FILE}:objective=contrastive,pairs=5m"]
    assert main(arguments) == 2
    assert "unknown pairs '5m' (nearest: '4m'" in capsys.readouterr().err
    arguments[-1] = f"{FILE}:pairs=4m"
    assert main([*arguments, f"--config.data.path={tmp_path / 'nothing'}"]) == 2
    assert f"{tmp_path / 'nothing'}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# settings without effect in these runs: of AdamW, of other schedules, of the other average
UNUSED = {
    "OptimConfig": {"final_lr_fraction", "lr_epochs", "steps_per_epoch", "weight_decay", "clip_norm"},
    "TrainConfig": {"ema_decay"},
}
STATED = (
    "SpecAugmentConfig",
    "FeatureConfig",
    "DataConfig",
    "TextTowerConfig",
    "DecoderConfig",
    "ObjectiveConfig",
    "OptimConfig",
    "MeshConfig",
    "TrainConfig",
    "RunConfig",
)


@pytest.mark.parametrize("kind", STATED)
def test_every_setting_is_stated(kind):
    """A default that changes must not change these runs."""
    calls = [node for node in ast.walk(ast.parse(FILE.read_text())) if is_call(node, kind)]
    fields = {field.name for field in dataclasses.fields(getattr(schema, kind))}
    assert [{keyword.arg for keyword in call.keywords} for call in calls] == [fields - UNUSED.get(kind, set())]


def is_call(node, name):
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name


def test_the_docstring_holds_the_papers_rows():
    rows = [line.split() for line in PAPER.__doc__.splitlines()]
    found = {" ".join(row[:2]): row[2:] for row in rows if len(row) == 9 and row[1] in ("scratch", "init")}
    assert found == {
        "contrastive, scratch": ["0.625", "50.87", "46.67", "67.71", "0.406", "67.30", "0.132"],
        "captioning, scratch": ["0.580", "47.79", "33.43", "63.60", "0.401", "63.10", "0.124"],
        "contrastive, init": ["0.664", "54.70", "38.17", "68.84", "0.406", "69.38", "0.187"],
        "captioning, init": ["0.652", "53.13", "26.23", "65.86", "0.410", "67.16", "0.145"],
    }
