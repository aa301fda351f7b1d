"""Which data sets are evaluated, and what the paper's protocol lacks."""

import types

import pytest

from alp_jax.config import RunConfig
from alp_jax.core.errors import UserError
from alp_jax.evaluation.stats.published import not_measured
from alp_jax.train import evaluate_sets as sets_module
from alp_jax.train.evaluate_sets import data_sets, evaluate_sets


def test_the_papers_suite_takes_every_data_set_of_a_folder_and_says_what_it_lacks(tmp_path):
    for name in ("vggsound", "fsd50k"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataset.json").write_text("{}")
    (tmp_path / "notes").mkdir()
    assert data_sets(str(tmp_path), "paper") == [tmp_path / "fsd50k", tmp_path / "vggsound"]
    assert data_sets(str(tmp_path / "fsd50k"), "paper") == [tmp_path / "fsd50k"]
    assert data_sets(str(tmp_path), "mini") == [tmp_path]  # which is then refused as no data set
    assert data_sets(None, "paper") == [None]
    with pytest.raises(UserError, match="contains none"):
        data_sets(str(tmp_path / "notes"), "paper")
    lines = not_measured(["fsd50k", "text_to_audio", "audio_to_text", "sound_event_detection"])
    assert "not measured: vggsound; needs alp data build vggsound" in lines
    assert "not measured: voxceleb2; needs alp data build voxceleb --option version=2" in lines
    assert not any("fsd50k" in line or "audioset_strong" in line for line in lines)


def test_floors_of_several_data_sets_lie_outside_of_the_results(tmp_path, monkeypatch):
    """In the folder of results every .json is a result."""
    for name in ("fsd50k", "vggsound"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "dataset.json").write_text("{}")
    written = []

    def suite(run, config, name, path):
        setup = types.SimpleNamespace(dataset=types.SimpleNamespace(path=path))
        return types.SimpleNamespace(setup=setup, names=["tags"], shortages={})

    def run_suite(model, suite, out, *, floors_path, keep_features=False):
        written.append((out, floors_path))
        return []

    monkeypatch.setattr(sets_module, "eval_model", lambda *args: (None, RunConfig()))
    monkeypatch.setattr(sets_module, "open_suite", suite)
    monkeypatch.setattr(sets_module, "run_suite", run_suite)
    run = tmp_path / "run"
    evaluate_sets(run, suite="paper", data=str(tmp_path / "data"), baselines=False, tell=lambda text: None)
    assert written == [(run / "eval" / name, run / "floors.json") for name in ("fsd50k", "vggsound")]
