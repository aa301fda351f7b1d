"""Runs in an object store, read and measured by commands that know folders only."""

import json
import pathlib

import fsspec
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.cli import main as cli
from alp_jax.config import model_in, to_dict
from alp_jax.config.schema import ModelConfig
from alp_jax.core import storage
from alp_jax.core.errors import AlpError, StorageError, UserError
from alp_jax.core.files import write_json
from alp_jax.core.run_files import RESULTS
from alp_jax.evaluation.stats.floors import shared_floors
from alp_jax.train.checkpoint import Checkpoints, load_params
from alp_jax.train.evaluate import _start, eval_model
from alp_jax.train.evaluate_sets import _wherever_they_lie, evaluate_sets
from alp_jax.train.remote_run import local_run

URL = "memory://bucket/runs/read"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run with checkpoints 3 and 6 of one small array."""
    run = tmp_path_factory.mktemp("saved") / "read"
    checkpoints = Checkpoints(run, keep=2)
    for step in (3, 6):
        state = {"params": {"text": {"kernel": jnp.full((4, 5), step)}}, "step": jnp.int32(step)}
        checkpoints.save(step, state, {"samples_seen": 16 * step}, {"loss": 1.0 / step})
    checkpoints.close()
    return run


@pytest.fixture(autouse=True)
def there(saved, tiny, monkeypatch, tmp_path):
    fsspec.filesystem("memory").store.clear()
    monkeypatch.setenv("ALP_CACHE", str(tmp_path / "disk"))
    write_json(saved / "config.json", to_dict(tiny()))
    for name in storage.tree(saved):
        storage.write(storage.join(URL, name), (saved / name).read_bytes())


def test_parameters_are_read_by_url_and_nothing_stays_on_the_disk(tmp_path):
    for step in (None, 3):
        params, read = load_params(URL, step)
        np.testing.assert_array_equal(params["text"]["kernel"], np.full((4, 5), step or 6))
        assert read == (step or 6)
    assert not list((tmp_path / "disk").iterdir())
    with pytest.raises(AlpError, match="holds a text tower only"):
        eval_model(URL)
    damaged = max(name for name in storage.tree(URL) if "6/state/" in name and "/d/" in name)
    storage.write(storage.join(URL, damaged), bytes(storage.size(storage.join(URL, damaged))))
    with pytest.raises(StorageError, match="does not have the SHA-256"):
        load_params(URL)


def test_a_text_side_that_evaluation_begins_with_brings_its_sizes(tiny):
    knob = "config.evaluation.lit_text"
    params, sizes = _start(URL, "text", knob, ModelConfig(), 304)
    np.testing.assert_array_equal(params["kernel"], np.full((4, 5), 6))
    assert (sizes.text, sizes.decoder) == (tiny().model.text, ModelConfig().decoder)
    with pytest.raises(UserError, match=f"{knob} = {URL}: its text knows 304 tokens, the tokenizer has 305"):
        _start(URL, "text", knob, ModelConfig(), 305)
    with pytest.raises(UserError, match="has no decoder"):
        _start(URL, "decoder", knob, ModelConfig(), 304)


def test_settings_of_a_run_and_floors_are_read_by_url(tiny):
    assert model_in(URL) == tiny().model
    assert model_in("memory://bucket/none") is None
    with pytest.raises(UserError, match="run folder s4://bucket/run: a run folder cannot be at s4://"):
        model_in("s4://bucket/run")
    path, asked = "memory://bucket/floors.json", []

    def compute(names):
        asked.extend(names)
        return {name: {"accuracy": 0.5} for name in names}

    for tasks in (["a"], ["a", "b"]):
        assert shared_floors(path, "data", tasks, compute) == {name: {"accuracy": 0.5} for name in tasks}
    assert asked == ["a", "b"]
    storage.write(path, b"[]")
    with pytest.raises(UserError, match=f"floors file {path} is not a JSON object"):
        shared_floors(path, "data", ["a"], compute)


def test_checkpoints_are_listed_inspected_and_verified_by_url(saved, capsys):
    def call(verb, run):
        assert cli.main(["ckpt", verb, str(run), "--json"]) == 0
        return {**json.loads(capsys.readouterr().out), "run": ""}

    for verb in ("list", "inspect", "verify"):
        assert call(verb, URL) == call(verb, saved)
    storage.remove(storage.join(URL, "checkpoints/6/manifest.json"))
    assert [row["whole"] for row in call("list", URL)["checkpoints"]] == [True, False]
    assert call("verify", URL)["verified"] == [3]
    assert cli.main(["ckpt", "list", "memory://bucket/none"]) == 2
    assert "memory://bucket/none has no checkpoints" in capsys.readouterr().err


def test_what_is_measured_goes_to_the_store_under_its_name(tmp_path):
    assert evaluate_sets.__wrapped__.__name__ == "evaluate_sets"
    told = []

    def evaluate(folder, *, tell, fails=False, **options):
        assert (folder / "checkpoints" / "3" / "manifest.json").exists()
        out = options.get("out") or folder / RESULTS
        write_json(out / "a-mean.json", {})
        tell(f"the JSON of each result is in {out}")
        if fails:
            raise AlpError(f"1 results failed: reasons are in {out}")
        return {"sets": {"data": {"out": str(out)}}}

    anywhere = _wherever_they_lie(evaluate)
    result = anywhere(URL, tell=told.append, step=3)
    assert result["sets"]["data"]["out"] == f"{URL}/eval"
    assert told == [f"the JSON of each result is in {URL}/eval"]
    assert storage.read(f"{URL}/eval/a-mean.json") == b"{}\n"
    storage.remove(f"{URL}/eval/a-mean.json")
    with pytest.raises(AlpError, match=f"reasons are in {URL}/eval"):
        anywhere(URL, tell=told.append, step=3, fails=True)
    assert storage.size(f"{URL}/eval/a-mean.json") > 0  # the others are there
    storage.remove(f"{URL}/eval/a-mean.json")
    anywhere(URL, tell=told.append, step=3, out=tmp_path / "out")
    assert storage.size(f"{URL}/eval/a-mean.json") == -1
    other = "memory://bucket/other"
    assert anywhere(URL, tell=told.append, step=3, out=f"{other}/")["sets"]["data"]["out"] == other
    assert told[-1] == f"the JSON of each result is in {other}"
    assert storage.names(other) == ["a-mean.json"]
    assert storage.size(f"{URL}/eval/a-mean.json") == -1
    with local_run(pathlib.Path(tmp_path)) as folder:
        assert folder == tmp_path
