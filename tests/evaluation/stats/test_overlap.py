"""The share of test clips that were trained on, by task and kind, and what is said when it cannot be known."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from alp_jax.config.schema import DataConfig
from alp_jax.core.clip import Clip
from alp_jax.data.audit import sets
from alp_jax.data.audit.audit import audit, exclude
from alp_jax.data.building.build import build
from alp_jax.data.store import ladder
from alp_jax.data.store.dataset import open_dataset
from alp_jax.evaluation.stats.overlap import Trained, shares
from alp_jax.evaluation.stats.table import overlaps
from alp_jax.train.evaluate import trained_on


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four training clips, of which the first in the ladder sounds as test clip 4 and the last as test clip 5."""
    root = tmp_path_factory.mktemp("overlap")
    rng = np.random.default_rng(0)
    sounds = {f"s:{i}": np.rint(3000 * rng.standard_normal(9600)).astype(np.int16) for i in range(8)}
    train = sorted(list(sounds)[:4], key=ladder.id_hash)
    sounds |= {train[0]: sounds["s:4"], train[-1]: sounds["s:5"]}
    clips = []
    for i, (name, wave) in enumerate(sounds.items()):
        path = root / f"{i}.wav"
        soundfile.write(path, wave, 16000, subtype="PCM_16")
        clips.append(Clip(name, "s", name, str(path), captions=(f"sound {i}",), split="train" if i < 4 else "test"))
    build(clips, root / "data", source_name="s", workers=1)
    return root / "data"


@pytest.fixture
def tests(data):
    dataset = open_dataset(data)
    row = {dataset.id[r].as_py(): r for r in dataset.rows("test")}
    return dataset, {"all": np.sort([row[f"s:{i}"] for i in range(4, 8)]), "two": np.sort([row["s:5"], row["s:6"]])}


def test_shares_are_of_the_rung_that_was_trained_on(data, tests):
    dataset, tasks = tests
    found = shares(Trained(DataConfig(path=str(data)), dataset.fingerprint), dataset, tasks)
    assert found["all"] == {"recording": 0.0, "audio": 0.5, "near": 0.5, "caption": 0.0, "any": 0.5}
    assert found["two"]["audio"] == 0.5
    first = shares(Trained(DataConfig(path=str(data), pairs=1), dataset.fingerprint), dataset, tasks)
    assert (first["all"]["audio"], first["two"]["any"]) == (0.25, 0.0)


def test_what_cannot_be_known_is_said(data, tests, tmp_path):
    dataset, tasks = tests
    assert "not known" in shares(None, dataset, tasks)["all"]["unknown"]
    gone = Trained(DataConfig(path=str(tmp_path / "gone")), dataset.fingerprint)
    assert "gone does not exist" in shares(gone, dataset, tasks)["all"]["unknown"]


def test_clips_that_were_excluded_after_the_run_are_not_taken_for_unseen(data, tests, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    before, tasks = open_dataset(folder), tests[1]
    (tmp_path / "config.json").write_text(json.dumps({"data": {"path": str(folder)}}))
    (tmp_path / "env.json").write_text(json.dumps({"data_fingerprint": before.fingerprint}))
    trained = trained_on(tmp_path)
    assert shares(trained, before, tasks)["all"]["any"] == 0.5
    exclude(before, audit(before, sets.of_splits(before, ("test",))))
    after = open_dataset(folder)
    assert "no longer what the run was trained on" in shares(trained, after, tasks)["all"]["unknown"]
    assert shares(Trained(trained.data, after.fingerprint), after, tasks)["all"]["any"] == 0.0


def test_a_folder_that_was_not_trained_here_has_no_training_data(tmp_path):
    assert trained_on(tmp_path) is None


def test_the_command_prints_what_was_trained_on():
    none = {"recording": 0.0, "audio": 0.0, "near": 0.0, "caption": 0.0, "any": 0.0}
    some = none | {"audio": 0.25, "near": 0.5, "any": 0.5}
    results = [{"task": "a", "overlap": some}, {"task": "b", "overlap": none}, {"task": "c", "failed": "x"}]
    assert overlaps(results) == ["a: 50.0% of the test clips were trained on (25.0% by audio, 50.0% by near)"]
    assert overlaps(results[1:]) == ["no test clip was trained on"]
    assert overlaps([{"task": "a", "overlap": {"unknown": "why"}}]) == ["test clips that were trained on: why"]
