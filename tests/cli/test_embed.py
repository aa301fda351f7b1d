"""``alp embed`` from a run folder: what it writes, says and refuses."""

import json

import jax
import numpy as np
import pytest
import soundfile

from alp_jax.cli import main as cli
from alp_jax.config import RunConfig, to_dict
from alp_jax.config.schema import ModelConfig, ObjectiveConfig, ZipformerConfig
from alp_jax.core.files import write_json
from alp_jax.train.build import make_model
from alp_jax.train.checkpoint import Checkpoints


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A folder like that of an imported encoder: one narrow stack with random weights, no text side."""
    encoder = ZipformerConfig(
        num_encoder_layers=(1,), downsampling_factor=(1,), encoder_dim=(16,), feedforward_dim=(24,), num_heads=(2,),
        query_head_dim=(4,), value_head_dim=(4,), pos_dim=8, encoder_unmasked_dim=(16,), cnn_module_kernel=(5,),
        frontend_channels=(2, 4, 8),
    )  # fmt: skip
    model = ModelConfig(name="tiny", depthwise_form="lax", encoder=encoder)
    config = RunConfig(model=model, objective=ObjectiveConfig(name="none"))
    path = tmp_path_factory.mktemp("runs") / "tiny"
    write_json(path / "config.json", to_dict(config))
    checkpoints = Checkpoints(path, keep=1)
    checkpoints.save(0, {"params": make_model(config)[0](jax.random.key(0))}, {})
    checkpoints.close()
    return path


@pytest.fixture
def sounds(tmp_path):
    (tmp_path / "sounds").mkdir()
    for i in range(3):
        tone = 0.3 * np.sin(np.arange(8000 + 4000 * i) * 0.1)
        soundfile.write(tmp_path / "sounds" / f"{i}.flac", tone, 16000)
    return tmp_path / "sounds"


def embed(capsys, run_dir, sounds, out, *more):
    argv = ["embed", "--model", run_dir, "--audio", sounds, "--out", out, "--window_seconds", 1, "--workers", 1, *more]
    status = cli.main([str(word) for word in argv])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_folder_becomes_a_file_and_a_line(run_dir, sounds, tmp_path, capsys):
    (sounds / "bad.mp3").write_text("no audio")
    out = tmp_path / "new" / "emb.npz"
    status, printed, messages = embed(capsys, run_dir, sounds, out, "--json")
    assert status == 0
    result = json.loads(printed)
    assert (result["files"], result["embedded"], result["failed"], result["width"]) == (4, 3, 1, 16)
    assert "not embedded: bad.mp3: not_audio" in messages
    with np.load(out) as stored:
        assert stored["path"].tolist() == ["0.flac", "1.flac", "2.flac"]
        assert stored["seconds"].tolist() == [0.5, 0.75, 1.0]
    status, printed, _ = embed(capsys, run_dir, sounds, out)  # complete: read back
    assert status == 0
    assert "3 files" in printed
    assert "1 of 4 files (1 not_audio)" in printed
    status, _, messages = embed(capsys, run_dir, sounds, out, "--stride_seconds", "0.5")
    assert status == 2
    assert "differs in settings" in messages


def test_only_bad_files_exit_1(run_dir, sounds, tmp_path, capsys):
    for path in sounds.iterdir():
        path.write_bytes(b"")
    status, printed, messages = embed(capsys, run_dir, sounds, tmp_path / "emb.npz", "--json")
    assert status == 1
    assert printed == ""
    assert messages.splitlines()[-1].startswith("alp: none of the 3 audio files")
    assert [path.name for path in tmp_path.iterdir()] == ["sounds"]


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("emb.npz", ["--pooling", "joint"], "contrastive"),
        ("emb.csv", [], "must end in"),
        ("emb.npz", ["--batch_size", "0"], "batch_size 0"),
        ("emb.npz", ["--max_seconds", "inf"], "max_seconds inf"),
        ("emb.npz", ["--step", "7"], "7"),
    ],
)
def test_mistakes_leave_nothing(run_dir, sounds, tmp_path, capsys, name, more, words):
    status, printed, messages = embed(capsys, run_dir, sounds, tmp_path / name, *more)
    assert (status, printed, messages.count("\n")) == (2, "", 1)
    assert words in messages
    assert [path.name for path in tmp_path.iterdir()] == ["sounds"]
