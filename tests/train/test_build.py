"""Runs carry their tokenizer: a run folder alone says how captions are encoded, wherever its data set went."""

import dataclasses
import json
import shutil

import pytest

from alp_jax.config import to_dict
from alp_jax.core.errors import UserError
from alp_jax.data.store.dataset import open_dataset
from alp_jax.data.text import training
from alp_jax.data.text.open import open_tokenizer
from alp_jax.interop.writing.compare import parity_clips, parity_data
from alp_jax.train.build import find_data, require_data, run_tokenizer
from alp_jax.train.evaluate import open_suite, trained_on
from alp_jax.train.run_dir import RunDir

TEXT = "a very high tone, take 7"


@pytest.fixture
def data(tones, tmp_path):
    return shutil.copytree(tones, tmp_path / "data")


@pytest.fixture
def run(tiny, data, tmp_path):
    """(run folder as training leaves it at its first step, configuration)."""
    config = tiny(data={"path": str(data)})
    with RunDir(tmp_path / "run", config) as folder:
        folder.write_environment(open_dataset(data), open_tokenizer(data / "tokenizer.model"))
    return tmp_path / "run", config


def test_the_copy_counts_whatever_became_of_the_data_set(run, data, tmp_path):
    folder, config = run
    wanted = open_tokenizer(data / "tokenizer.model")
    environment = json.loads((folder / "env.json").read_text())
    assert (environment["data"], environment["tokenizer_sha256"]) == (str(data), wanted.sha256)
    copied = shutil.copytree(folder, tmp_path / "elsewhere" / "run")
    shutil.rmtree(data)
    found = run_tokenizer(copied, config, tmp_path)
    assert (found.sha256, found.encode(TEXT)) == (wanted.sha256, wanted.encode(TEXT))
    assert find_data(copied, config) is None
    with pytest.raises(UserError, match=r"was trained on data set .*data, which was not found: give one with --data"):
        require_data(copied, config)


@pytest.mark.parametrize(
    ("content", "why"),
    [([], "is not a JSON object"), ({"data": 3}, ": data is 3, not a path"), ({}, "has no data_fingerprint")],
)
def test_an_environment_of_another_form_is_named(run, content, why):
    folder, _ = run
    (folder / "env.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"^run environment .*env\.json ?{why}"):
        trained_on(folder)


def test_a_copied_run_is_evaluated_and_exported_without_its_data_set(run, data, tmp_path):
    folder, config = run
    wanted = open_tokenizer(data / "tokenizer.model").sha256
    other = shutil.copytree(data, tmp_path / "other")
    training.train(["another vocabulary than that of the run"], other / "tokenizer.model", None)
    copied = shutil.copytree(folder, tmp_path / "elsewhere" / "run")
    shutil.rmtree(data)
    suite = open_suite(copied, config, "mini", other)
    assert (suite.setup.tokenizer.sha256, suite.names) == (wanted, ["pitch"])
    with pytest.raises(UserError, match="which was not found"):
        open_suite(copied, config, "mini")
    clips, kind = parity_clips(parity_data(copied, config, None), 3, 1.0)
    assert (len(clips), kind) == (3, "made-up clips")
    assert parity_clips(parity_data(copied, config, str(other)), 3, 1.0)[1] == f"test clips of {other}"


def test_runs_without_a_copy_take_the_one_of_their_data_set_or_say_what_is_missing(run, data):
    folder, config = run
    (folder / "tokenizer.model").unlink()
    assert run_tokenizer(folder, config, data).sha256 == open_tokenizer(data / "tokenizer.model").sha256
    (data / "tokenizer.model").rename(data / "other.model")
    with pytest.raises(UserError, match=r"has no tokenizer of its own, and .*data/tokenizer.model, .* copy that file"):
        run_tokenizer(folder, config, data)
    stated = dataclasses.replace(config, data=dataclasses.replace(config.data, tokenizer=str(data / "other.model")))
    assert run_tokenizer(folder, stated, data).encode(TEXT)


def test_a_relative_data_set_is_found_from_another_folder(tiny, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tiny(data={"path": "data"})
    with RunDir("run", config) as folder:
        folder.write_environment(open_dataset("data"), open_tokenizer("data/tokenizer.model"))
    assert find_data("run", config) == "data"
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert find_data("../run", config) == str(tmp_path / "data")
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == to_dict(config)


def test_a_tokenizer_json_is_kept_with_its_roles_and_replaces_another(run, tmp_path):
    from alp_jax.data.text.portable import portable_tokenizer

    folder, config = run
    (tmp_path / "json").mkdir()
    for name, content in portable_tokenizer(open_tokenizer(folder / "tokenizer.model"), [TEXT]).files.items():
        (tmp_path / "json" / name).write_bytes(content)
    wanted = open_tokenizer(tmp_path / "json" / "tokenizer.json")
    with RunDir(folder, config) as again:
        again.write_environment(open_dataset(config.data.path), wanted)
    assert not (folder / "tokenizer.model").exists()
    found = run_tokenizer(folder, config, "nowhere")
    assert (found.sha256, found.encode(TEXT), found.bos_id) == (wanted.sha256, wanted.encode(TEXT), wanted.bos_id)


def test_an_imported_encoder_takes_the_tokenizer_of_the_data_set_it_is_measured_on(tiny, data, tmp_path):
    """Whatever lies at the place that its configuration, which is not of a training, names."""
    wanted = open_tokenizer(data / "tokenizer.model").sha256
    named = shutil.copytree(data, tmp_path / "named")
    training.train(["another vocabulary than that of the data"], named / "tokenizer.model", None)
    (tmp_path / "imported").mkdir()
    for place in (tmp_path / "none", named):
        config = tiny("none", data={"path": str(place)})
        assert run_tokenizer(tmp_path / "imported", config, data).sha256 == wanted
