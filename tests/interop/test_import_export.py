"""``alp export torch --format ...`` and ``alp import`` on small runs: proved before it exists, nothing half-written."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file

from alp_jax.cli.main import main
from alp_jax.config import RunConfig, to_dict
from alp_jax.config.schema import (
    DataConfig,
    DecoderConfig,
    ModelConfig,
    ObjectiveConfig,
    TextTowerConfig,
    TrainConfig,
    ZipformerConfig,
)
from alp_jax.core.clip import Clip
from alp_jax.core.errors import UserError
from alp_jax.data.building import build
from alp_jax.data.text import piece_model, training
from alp_jax.data.text.open import open_tokenizer
from alp_jax.interop.formats import auden, hf_text
from alp_jax.interop.isolated import process
from alp_jax.optim.optimizer import make_optimizer
from alp_jax.parallel.mesh import make_mesh
from alp_jax.train.build import make_model, make_parts
from alp_jax.train.checkpoint import Checkpoints, load_params
from alp_jax.train.state import create_state, state_maker

tokenizers = pytest.importorskip("tokenizers")

CAPTIONS = ("A dog barks twice.", "Heavy rain, then thunder", "Zwei Frauen reden über Kaffee", "an old engine idles")
FILES = ["README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
VOCABULARY = 292
MODEL = ModelConfig(
    name="tiny",
    encoder=ZipformerConfig(
        num_encoder_layers=(1, 1),
        downsampling_factor=(1, 2),
        encoder_dim=(16, 24),
        feedforward_dim=(24, 32),
        num_heads=(2,),
        query_head_dim=(4,),
        value_head_dim=(4,),
        pos_dim=8,
        encoder_unmasked_dim=(16, 24),
        cnn_module_kernel=(5, 3),
    ),
    text=TextTowerConfig(
        vocab_size=VOCABULARY + 4,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
    ),
    decoder=DecoderConfig(
        vocab_size=VOCABULARY + 4, d_model=16, num_decoder_layers=1, decoder_nhead=2, dim_feedforward=16
    ),
    shared_emb_dim=12,
)


def make_run(folder, data, objective, step=30_000, **parts):
    """A run folder with one checkpoint of random parameters, none at a start value that would hide it."""
    config = RunConfig(
        data=DataConfig(path=str(data), text_budget=38), model=MODEL, objective=ObjectiveConfig(name=objective)
    )
    rng = np.random.default_rng(0)

    def draw(like):
        scale = 1 / np.sqrt(np.prod(like.shape[:-1])) if len(like.shape) > 1 else 0.2
        return np.asarray(scale * rng.standard_normal(like.shape), np.float32)

    params = jax.tree.map(draw, jax.eval_shape(make_model(config)[0], jax.random.key(0)))
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(to_dict(dataclasses.replace(config, **parts))))
    checkpoints = Checkpoints(folder, keep=1)
    checkpoints.save(step, {"params": params}, {})
    checkpoints.close()
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    clips = []
    for i in range(8):
        path = root / f"{i}.wav"
        wave = rng.normal(0, 3000, 3000 + 2500 * i) * np.linspace(0.01, 1, 3000 + 2500 * i)
        soundfile.write(path, wave.astype(np.int16), 16000, subtype="PCM_16")
        about = {"captions": (CAPTIONS[i % 4],), "split": "test" if i < 4 else "train", "group": str(i)}
        clips.append(Clip(id=f"n:{i}", source="n", recording=f"n:{i}", audio_path=str(path), **about))
    build.build(clips, root / "data", source_name="n", shards=1, workers=1)
    training.train(CAPTIONS, root / "data" / "tokenizer.model", VOCABULARY)
    return root / "data"


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return {objective: make_run(root / objective, data, objective) for objective in ("contrastive", "captioning")}


def alp(capfd, *arguments):
    """The JSON line of a command that succeeds."""
    assert main([*map(str, arguments), "--json"]) == 0, capfd.readouterr().err
    return json.loads(capfd.readouterr().out)


def refused(capfd, words, *arguments, status=2):
    assert main([*map(str, arguments)]) == status
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("alp: ")]
    assert len(lines) == 1
    assert words in lines[0]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("objective", "kind"), [("contrastive", "clap"), ("captioning", "audio-caption")])
def test_a_whole_model_goes_out_comes_back_and_goes_out_the_same(
    tmp_path, runs, data, capfd, monkeypatch, objective, kind
):
    out, back, again = tmp_path / "out", tmp_path / "back", tmp_path / "again"
    made = alp(capfd, "export", "torch", "--format=auden", "--run", runs[objective], "--out", out, "--clips=3")
    assert (made["model_type"], made["clips"]) == (kind, 3)
    assert max(made[name] for name in ("frames", "pooled")) <= made["tolerance"] == 1e-4
    assert ("embed" in made) == (kind == "clap")
    assert made["checked_with"] == ["this project", "PyTorch"][: 1 + process.installed("torch")]
    assert made["tokenizer"]["differ"] == 0
    assert made["tokenizer"]["compared"] > len(CAPTIONS)
    assert names(out) == FILES
    settings = json.loads((out / "config.json").read_text())
    assert settings["model_type"] == kind
    assert settings["alp"]["run"] == objective
    rows = json.loads((out / "tokenizer.json").read_text())
    last = max(token["id"] for token in rows["added_tokens"])
    assert last == (VOCABULARY + 3 if kind == "audio-caption" else 4)  # a decoder needs as many ids as it has rows

    read = alp(capfd, "import", "auden", out, "--out", back, "--data", data)
    assert (read["model_type"], read["left_out"], read["converted"]) == (kind, [], {})
    assert names(back) == ["checkpoints", "config.json", "import.json", "tokenizer.json", "tokenizer_config.json"]
    monkeypatch.setattr(process, "installed", lambda *packages: False)
    repeated = alp(capfd, "export", "torch", "--format=auden", "--run", back, "--out", again, "--clips=1")
    assert repeated["checked_with"] == ["this project"]
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        assert (again / name).read_bytes() == (out / name).read_bytes(), name
    settings.pop("alp")
    assert settings.items() <= json.loads((again / "config.json").read_text()).items()
    assert auden.read_folder(out).batch_count == 30_000

    alone = alp(capfd, "import", "auden", out, "--out", tmp_path / "alone", "--only_encoder")
    assert alone["left_out"]
    assert not alone["tokenizer"]
    assert not any(name.startswith("audio_encoder.") for name in alone["left_out"])


def test_the_encoder_alone_is_written_without_a_tokenizer(tmp_path, runs, capfd):
    command = ["export", "torch", "--format=auden", "--part=encoder", "--run", runs["contrastive"], "--clips=1"]
    made = alp(capfd, *command, "--out", tmp_path / "out")
    assert made["model_type"] == "zipformer"
    assert "embed" not in made
    assert names(tmp_path / "out") == FILES[:3]


def test_an_export_can_hold_the_mean_since_an_earlier_checkpoint(tmp_path, data, capfd):
    """Running averages a over steps 1 to 10 and b over 1 to 20: the last ten average 2 b - a."""
    run = make_run(tmp_path / "run", data, "contrastive", step=5, train=TrainConfig(average="running"))
    first = load_params(run)[0]
    second = jax.tree.map(lambda a: 1.05 * a, first)
    checkpoints = Checkpoints(run, keep=2)
    for step, average in ((10, first), (20, second)):
        checkpoints.save(step, {"params": first, "average": average}, {})
    checkpoints.close()
    arguments = ("export", "torch", "--format", "auden", "--part", "encoder", "--run", run, "--out", tmp_path / "out")
    alp(capfd, *arguments, "--since", 10)
    bias = load_file(tmp_path / "out" / "model.safetensors")["encoder_embed.out.bias"]
    np.testing.assert_allclose(bias, 1.1 * first["encoder"]["encoder_embed"]["out"]["bias"], rtol=1e-5)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["alp"]["since"] == 10
    (run / "config.json").write_text((run / "config.json").read_text().replace('"running"', '"ema"'))
    refused(capfd, "needs config.train.average=running", *arguments, "--since", 10)


def test_a_text_tower_goes_to_transformers_and_comes_back(tmp_path, runs, data, capfd):
    out, back = tmp_path / "out", tmp_path / "back"
    made = alp(capfd, "export", "torch", "--format=hf", "--run", runs["contrastive"], "--out", out)
    assert made["hidden"] <= made["tolerance"]
    assert made["texts"] == 4
    assert names(out) == FILES
    read = alp(capfd, "import", "hf", out, "--out", back, "--data", data)
    assert read["parameters"] == made["parameters"]
    refused(capfd, "holds a text tower only", "eval", "--run", back)
    refused(
        capfd, "holds a text tower only", "export", "torch", "--format=auden", "--run", back, "--out", tmp_path / "x"
    )
    for part, words in (("decoder", "transformers has no class for this caption decoder"), ("model", "unknown --part")):
        refused(
            capfd, words, "export", "torch", "--format=hf", f"--part={part}", "--run", back, "--out", tmp_path / "x"
        )
    refused(
        capfd, "no text tower", "export", "torch", "--format=hf", "--run", runs["captioning"], "--out", tmp_path / "x"
    )
    assert names(tmp_path) == ["back", "out"]


def test_training_starts_from_the_encoder_and_the_text_tower_of_folders(runs, data):
    words = open_tokenizer(data / "tokenizer.model")
    config = RunConfig(
        init=str(runs["captioning"]), init_text=str(runs["contrastive"]), model=MODEL, data=DataConfig(text_budget=38)
    )
    mesh = make_mesh(config.mesh)
    parts = make_parts(config, words, mesh)
    make = state_maker(parts.init, parts.apply, make_optimizer(config.optim, 10))
    started = create_state(make, 1, mesh, parts.start)["params"]
    for part, source in (("encoder", "captioning"), ("text", "contrastive")):
        jax.tree.map(np.testing.assert_array_equal, started[part], load_params(runs[source])[0][part])
    kernel = load_params(runs["contrastive"])[0]["audio_proj"]["hidden"]["kernel"]
    assert not np.array_equal(started["audio_proj"]["hidden"]["kernel"], kernel)
    captioning = dataclasses.replace(config, objective=ObjectiveConfig(name="captioning"))
    wider = dataclasses.replace(MODEL, text=dataclasses.replace(MODEL.text, intermediate_size=18))
    for wrong, message in (
        (dataclasses.replace(config, init_text=config.init), "config.init_text = .*captioning has no text"),
        (captioning, "config.init_text = .*: a model of this objective has no text"),
        (
            dataclasses.replace(config, model=wider),
            r"config.init_text: the text in .* does not fit config.model: layers",
        ),
    ):
        with pytest.raises(UserError, match=message):
            make_parts(wrong, words, make_mesh(config.mesh))


def test_what_the_format_cannot_hold_is_refused_by_name(tmp_path, data, capfd):
    narrow = dataclasses.replace(MODEL.encoder, frontend_channels=(4, 8, 8))
    run = make_run(tmp_path / "run", data, "captioning", model=dataclasses.replace(MODEL, encoder=narrow))
    command = ["export", "torch", "--format=auden", "--run", run, "--out", tmp_path / "out"]
    refused(capfd, "config.model.encoder.frontend_channels = (4, 8, 8)", *command)
    assert names(tmp_path) == ["run"]


@pytest.mark.parametrize(("form", "module"), [("auden", auden), ("hf", hf_text)])
def test_a_folder_that_does_not_hold_the_model_never_exists(tmp_path, runs, capfd, monkeypatch, form, module):
    right = module.to_torch

    def wrong(params, kind, **options):
        state = right(params, kind, **options)
        name = next(name for name in sorted(state) if name.endswith("key.weight"))
        state[name][0, 0] += 1e-7
        return state

    monkeypatch.setattr(module, "to_torch", wrong)
    command = [
        "export",
        "torch",
        f"--format={form}",
        "--run",
        runs["contrastive"],
        "--out",
        tmp_path / "out",
        "--clips=1",
    ]
    refused(capfd, "key/kernel comes back from the written folder with different values", *command, status=1)
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_with_other_ids_stops_the_export(tmp_path, runs, capfd, monkeypatch):
    monkeypatch.setattr(piece_model, "_normalizers", lambda charsmap: [{"type": "NFKC"}])
    command = [
        "export",
        "torch",
        "--format=auden",
        "--run",
        runs["contrastive"],
        "--out",
        tmp_path / "out",
        "--clips=1",
    ]
    refused(capfd, "tokenizer.json encodes", *command)
    assert list(tmp_path.iterdir()) == []


def test_mistakes_with_imports_are_one_line_and_write_nothing(tmp_path, models, capfd):
    source, out = tmp_path / "source", tmp_path / "out"
    models.write(source, "clap")
    for words, *command in (
        ("nope does not exist", "auden", tmp_path / "nope", "--out", out),
        ("source exists already", "auden", source, "--out", source),
        ("has no tokenizer.json", "auden", source, "--out", out),
        ("it is not a Zipformer", "icefall", source, "--out", out, "--only_encoder"),
        ("unknown model_type 'clap'", "hf", source, "--out", out),
        ("unknown argument '--only_encoder'", "hf", source, "--out", out, "--only_encoder"),
    ):
        refused(capfd, words, "import", *command)
    (source / "tokenizer.json").write_text("{}")
    refused(capfd, "is not a tokenizer.json", "import", "auden", source, "--out", out)
    assert names(tmp_path) == ["source"]


def test_a_vocabulary_must_fit_the_weights(tmp_path, models, data, capfd):
    from alp_jax.data.text.portable import portable_tokenizer

    made = portable_tokenizer(open_tokenizer(data / "tokenizer.model"), CAPTIONS)
    for name in ("clap", "caption_a"):
        models.write(tmp_path / name, name)
        for file, content in made.files.items():
            (tmp_path / name / file).write_bytes(content)
        command = ["import", "auden", tmp_path / name, "--out", tmp_path / "out"]
        refused(capfd, f"has {VOCABULARY} tokens, the weights have", *command)
    assert names(tmp_path) == ["caption_a", "clap"]
    small = {token: i for i, token in enumerate(["<s>", "</s>", "<pad>", "<mask>", "<unk>", "dog"])}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(small, unk_token="<unk>"))
    for name, message in (
        ("clap", "only [0, 4, 1] could be reproduced"),
        ("caption_a", "6 tokens, the weights have 61"),
    ):
        (tmp_path / name / "tokenizer.json").write_text(words.to_str())
        (tmp_path / name / "tokenizer_config.json").unlink()
        refused(capfd, message, "import", "auden", tmp_path / name, "--out", tmp_path / "out")
    assert names(tmp_path) == ["caption_a", "clap"]
