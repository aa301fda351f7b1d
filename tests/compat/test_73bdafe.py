"""What users made with the version of commit 73bdafe opens in this one: a data set, a run, a ledger and an export.

73bdafe/README.md says how it was made and when it may be made anew.
"""

import importlib.util
import json
import pathlib
import shutil
import tarfile

import jax
import numpy as np
import pyarrow.parquet as parquet
import pytest
import soundfile
import torch

from alp_jax.cli.main import main
from alp_jax.core.files import read_json
from alp_jax.core.run_files import Result, RunSummary, result_files
from alp_jax.data.store.dataset import open_dataset
from alp_jax.train import setup

MADE = pathlib.Path(__file__).parent / "73bdafe" / "made.tar.gz"
CLIPS = 56
RUN = "runs/hybrid-64-tiny-seed0-b75f90eb"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The folder that everything was made in."""
    root = tmp_path_factory.mktemp("made")
    with tarfile.open(MADE) as archive:
        archive.extractall(root, filter="data")
    return root


@pytest.fixture
def made(unpacked, monkeypatch):
    """The same, as working directory: the run names its data set from there."""
    monkeypatch.chdir(unpacked)
    return unpacked


def results(folder: pathlib.Path) -> dict[tuple[str, str], dict[str, float]]:
    """(task, pooling) -> metric -> value."""
    read = [Result.read(path) for path in result_files(folder)]
    return {(one.task, one.pooling): {name: row["value"] for name, row in one.metrics.items()} for one in read}


def alp(*arguments: str) -> None:
    assert main(list(arguments)) == 0, arguments


def test_the_data_set_is_whole_and_its_clips_are_read(made):
    alp("data", "verify", "data")
    dataset = open_dataset("data")
    assert dataset.num_clips == CLIPS
    assert dataset.fingerprint == read_json(f"{RUN}/env.json")["data_fingerprint"]
    records = [dataset.read(row) for row in range(CLIPS)]
    assert {record.split for record in records} == {"train", "test"}
    for record in records:
        number = int(record.captions[1].split()[-1])
        assert record.audio.dtype == np.int16
        assert len(record.audio) == record.num_samples
        assert record.labels == {"pitch": ("low", "high")[number % 2]}
        assert record.group == f"group {number // 2}"


def test_its_data_set_is_audited_by_the_landmarks_that_it_has(made, tmp_path, capsys):
    shutil.copytree("data", tmp_path / "data")
    alp("data", "audit", str(tmp_path / "data"))
    text = capsys.readouterr().out
    for side in ("training", "evaluation"):
        assert f" {side} clips with sound were built before there were elastic landmarks" in text


def test_the_run_is_evaluated_with_the_results_it_had(made):
    alp("eval", "--run", RUN, "--suite", "text_to_audio", "--no_baselines", "--out", "again")
    before, after = (results(made / folder) for folder in (f"{RUN}/eval", "again"))
    assert before["pitch", "mean"] == {"accuracy": 1.0, "balanced_accuracy": 1.0}
    assert set(after) == {("text_to_audio", "joint"), ("text_to_audio", "linear_alignment")}
    # The alignment is fitted anew, to sounds of two kinds, and how ties rank was mended since: nothing to compare.
    joint = "text_to_audio", "joint"
    assert after[joint] == pytest.approx(before[joint], abs=0.06)  # a clip more or less


def test_the_run_goes_on_where_it_stopped(made, tmp_path, monkeypatch):
    run = shutil.copytree(made / RUN, tmp_path / "run")
    any_mesh = setup.make_mesh  # it was made on one device
    monkeypatch.setattr(setup, "make_mesh", lambda mesh: any_mesh(mesh, jax.devices()[:1]))
    longer = ["--workdir", str(run), "--config", "tiny.py:pairs=64", "--config.train.steps=6", "--extend"]
    alp("train", *longer, "--config.data.max_padding=0.1")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
    assert list(losses) == list(range(6))
    assert losses[5] < losses[0]
    assert RunSummary.read(run).steps == 6


def test_the_run_embeds_a_sound(made):
    (made / "sounds").mkdir()
    soundfile.write(made / "sounds" / "a.wav", 0.1 * np.sin(np.arange(8000) / 7), 16000)
    alp("embed", "--model", RUN, "--audio", "sounds", "--out", "embeddings.parquet")
    assert parquet.read_table("embeddings.parquet").num_rows == 1


@pytest.mark.parametrize("file", ["ledger.jsonl", "ledger.csv"])
def test_the_ledger_is_fitted(made, file, tmp_path):
    alp("scaling", "fit", "--ledger", f"sweep/{file}", "--replicas", "20", "--out", str(tmp_path))
    assert len(read_json(tmp_path / "fits.json")["fits"]) == 21


def test_the_export_computes_what_its_run_computes_and_is_what_would_be_exported_today(made, tmp_path):
    spec = importlib.util.spec_from_file_location("exported_at_73bdafe", "export/alp_encoder.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    encoder = module.AlpEncoder.from_pretrained("export")
    audio = torch.zeros(1, 8000, dtype=torch.int16)
    frames, frame_len = encoder(audio, torch.tensor([8000]))
    assert frames.shape[-1] == 8
    assert frame_len.item() <= frames.shape[1]
    alp("export", "verify", "--run", RUN, "--model", "export")
    alp("export", "torch", "--run", RUN, "--step", "4", "--out", str(tmp_path / "today"))
    weights = pathlib.Path("model.safetensors")
    assert (tmp_path / "today" / weights).read_bytes() == (made / "export" / weights).read_bytes()
