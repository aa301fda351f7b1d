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
    lines = not_measured([result("fsd50k", "fsd50k"), result("sound_event_detection", "audioset_strong")])
    assert "not measured: vggsound; needs alp data build vggsound" in lines
    assert "not measured: voxceleb2; needs alp data build voxceleb --option version=2" in lines
    assert not any("fsd50k" in line or "audioset_strong" in line for line in lines)


def result(task, *sources):
    return {"task": task, "sources": list(sources)}


def test_every_data_set_of_the_language_tasks_is_asked_for_and_detection_on_mixtures_is_another_task():
    names = ("text_to_audio", "audio_to_text", "captioning")
    lines = not_measured([*(result(name, "audiocaps_v2") for name in names), result("captioning", "musiccaps")])
    assert not any("on audiocaps" in line for line in lines)
    assert "not measured on musiccaps: text_to_audio, audio_to_text; needs alp data build musiccaps" in lines
    assert "not measured on paraspeechcaps: " + ", ".join(names) + "; needs alp data build paraspeechcaps" in lines
    assert lines[-1].startswith("not measured: qa_sound, qa_Speaker_Gender_Recognition")
    lines = not_measured([result("sound_event_detection", "mini-sounds"), {"task": "fsd50k", "failed": "why"}])
    assert "not measured: sound_event_detection; needs alp data build audioset_strong" in lines
    assert "not measured: fsd50k; needs alp data build fsd50k" in lines


def test_floors_of_several_data_sets_lie_outside_of_the_results(tmp_path, monkeypatch):
    """In the folder of results every .json is a result."""
    for name in ("fsd50k", "small", "vggsound"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "dataset.json").write_text("{}")
    written = []

    def suite(run, config, name, path):
        if path.name == "small":
            raise UserError("data set small has none of its tasks")
        setup = types.SimpleNamespace(dataset=types.SimpleNamespace(path=path))
        return types.SimpleNamespace(setup=setup, names=["tags"], shortages={})

    def run_suite(model, suite, out, *, floors_path, keep_features=False):
        written.append((out, floors_path))
        return []

    monkeypatch.setattr(sets_module, "eval_model", lambda *args: (None, RunConfig()))
    monkeypatch.setattr(sets_module, "open_suite", suite)
    monkeypatch.setattr(sets_module, "run_suite", run_suite)
    run = tmp_path / "run"
    lines = []
    done = evaluate_sets(run, suite="paper", data=str(tmp_path / "data"), baselines=False, tell=lines.append)
    assert done["left_out"] == {str(tmp_path / "data" / "small"): "data set small has none of its tasks"}
    assert lines[1] == "left out: data set small has none of its tasks"
    with pytest.raises(UserError, match="small has none"):
        evaluate_sets(run, suite="paper", data=str(tmp_path / "data" / "small"), baselines=False, tell=lines.append)
    assert written == [(run / "eval" / name, run / "floors.json") for name in ("fsd50k", "vggsound")]
