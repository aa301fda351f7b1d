"""A published set from its files to results of the paper's suite, in tiny: official classes, splits and account."""

import csv
import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from alp_jax.cli.main import main
from alp_jax.config.schema import DataConfig, EvalConfig, FeatureConfig, ModelConfig
from alp_jax.core.errors import DataError
from alp_jax.data.store.dataset import open_dataset
from alp_jax.evaluation.evaluator import Setup
from alp_jax.evaluation.model import EvalModel
from alp_jax.evaluation.probes.evaluator import ProbeEvaluator
from alp_jax.evaluation.probes.tasks import build_tasks
from alp_jax.evaluation.protocol import protocol, task_names
from alp_jax.evaluation.suite import Suite, run_suite
from alp_jax.evaluation.table import read_table

CLASSES = ("Bark", "Rain", "Rarity")
HOP = 400


def tone(labels, seed):
    """A second with 500 Hz for the first class, 1,000 for the second, 1,500 for the third."""
    time = np.arange(16_000) / 16_000
    waves = [np.sin(2 * np.pi * 500 * (1 + CLASSES.index(label)) * time) for label in labels]
    return 0.2 * np.sum(waves, 0) + 0.01 * np.random.default_rng(seed).standard_normal(16_000)


@pytest.fixture(scope="module")
def fsd50k(tmp_path_factory):
    """60 clips for training, 52 for validation, 30 for the test of which one has no file; one class is rare."""
    root = tmp_path_factory.mktemp("fsd50k")
    (root / "ground_truth").mkdir()
    (root / "audio").mkdir()
    rng, number = np.random.default_rng(0), 0
    for file, header, sides in (
        ("dev.csv", ["fname", "labels", "mids", "split"], {"train": 60, "val": 52}),
        ("eval.csv", ["fname", "labels", "mids"], {"": 30}),
    ):
        with open(root / "ground_truth" / file, "w", newline="") as handle:
            table = csv.writer(handle)
            table.writerow(header)
            for split, count in sides.items():
                for i in range(count):
                    number += 1
                    labels = ("Rarity",) if i == 3 else [("Bark",), ("Rain",), ("Bark", "Rain")][rng.integers(3)]
                    table.writerow([number, ",".join(labels), "/m/0", *([split] if split else [])])
                    if (split, i) != ("", 29):
                        soundfile.write(root / "audio" / f"{number}.wav", tone(labels, number), 16_000)
    where = ["--metadata", str(root / "ground_truth"), "--audio", str(root / "audio"), "--out", str(root / "built")]
    assert main(["data", "build", "fsd50k", "--workers", "1", *where]) == 0
    return open_dataset(root / "built")


def spectrum(audio_BS, audio_len_B):
    """Frames of the power at the three tones."""
    blocks = audio_BS.reshape(audio_BS.shape[0], -1, HOP).astype(jnp.float32) / 32768
    angle = 2 * jnp.pi * jnp.arange(HOP)[:, None] * 500 * jnp.arange(1, 4) / 16_000
    power = jnp.abs(blocks @ jnp.cos(angle)) + jnp.abs(blocks @ jnp.sin(angle))
    return power, (audio_len_B + HOP - 1) // HOP


class NoText:
    """In place of a tokenizer, which these tasks do not need."""

    sha256 = "none"


def paper_suite(dataset):
    own = EvalConfig(max_train_clips=40, lit_steps=0, max_seconds=0.5), DataConfig(bucket_seconds=(0.5,))
    setup = Setup(dataset, NoText(), *protocol("paper", *own), FeatureConfig(), ModelConfig())
    return Suite(setup, only=task_names("paper"))


def test_all_clips_and_classes_of_the_official_split_count(fsd50k):
    suite = paper_suite(fsd50k)
    assert suite.names == ["fsd50k"]  # and no task "tags" beside it
    task = suite.evaluators["fsd50k"].split
    assert task.classes == CLASSES  # also the one with a single clip on each side
    assert (len(task.train_row), len(task.test_row)) == (112, 29)  # more than max_train_clips
    assert task.selection == "validation split"
    assert {fsd50k.read(row, audio=False).split for row in task.train_row[task.held].tolist()} == {"valid"}
    assert {fsd50k.read(row, audio=False).split for row in task.test_row.tolist()} == {"test"}


def test_results_say_what_is_missing_and_what_the_paper_has(fsd50k, tmp_path, monkeypatch):
    model, suite = EvalModel("planted", spectrum), paper_suite(fsd50k)
    monkeypatch.setattr(ProbeEvaluator, "poolings", lambda self, model: ("mean",))  # attention takes long to compile
    (mean,) = run_suite(model, suite, tmp_path / "eval", floors_path=tmp_path / "floors.json")
    assert (mean["task"], mean["pooling"], mean["metric"]) == ("fsd50k", "mean", "map")
    assert mean["value"] > 0.95
    assert (mean["missing"]["missing"], mean["missing"]["expected"]) == (1, 142)
    assert mean["missing"]["incomplete"]  # of the clips as published nearly all are missing
    assert mean["published"]["supervised"] == 0.656
    assert mean["published_as"] == "mAP; linear probes, mean pooling"
    assert (mean["sources"], mean["cut"]) == (["fsd50k"], {"seconds": 30.0, "clips": 0})
    assert mean["missing"]["official"]["fsd50k"] == {"train": [60, 36796], "valid": [52, 4170], "test": [29, 10231]}


def test_a_class_on_one_side_only_and_a_group_on_both_are_told(fsd50k):
    table = read_table(fsd50k)
    one = dataclasses.replace(table, labels=[{"vggsound": "rain"} for _ in table.id])
    suite = paper_suite(fsd50k)
    assert "vggsound" not in build_tasks(one, suite.setup.config)[0]
    shared = dataclasses.replace(table, group=["one group"] * len(table.id))
    with pytest.raises(DataError, match="'one group' is in both training and test"):
        build_tasks(shared, suite.setup.config)


def test_a_task_of_one_class_says_so(fsd50k, monkeypatch):
    table = read_table(fsd50k)
    labels = [{"vggsound": "rain" if split == 0 else "wind"} for split in table.split]
    monkeypatch.setattr("alp_jax.evaluation.evaluator.read_table", lambda _: dataclasses.replace(table, labels=labels))
    setup = Setup(fsd50k, NoText(), EvalConfig(), DataConfig(), FeatureConfig(), ModelConfig())
    suite = Suite(setup, only=("vggsound",))
    assert suite.names == []
    assert suite.shortages["vggsound"].reason.endswith("1 training clips each are needed, and 0 of 2 have enough")
