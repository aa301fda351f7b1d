"""Questions out of labels: what their words give away, who is on which side, and the whole way by the command."""

import collections
import dataclasses
import json

import numpy as np
import pytest

import alp_jax.data.store.dataset as dataset_module
import alp_jax.train.evaluate as evaluate_module
from alp_jax.cli.main import main
from alp_jax.config import RunConfig
from alp_jax.config.schema import DataConfig
from alp_jax.core.errors import DataError, UserError
from alp_jax.evaluation.qa import actions
from alp_jax.evaluation.qa.format import Question, read_answers, read_questions
from alp_jax.evaluation.qa.sounds import ClipSounds, FileSounds, reduce_frames
from alp_jax.evaluation.qa.templates import count_kinds, template_questions

KINDS = ("dog", "cat", "rain")


def of_kind(asked, task):
    return [question for question in asked if question.task_name == task]


def test_questions_are_about_their_clips_and_no_group_is_on_both_sides(dataset):
    sides = {s: template_questions(dataset, s, ("name", "yes_no", "choice", "describe")) for s in ("train", "test")}
    records = {record.id: record for record in dataset.records}
    for split, asked in sides.items():
        assert asked == template_questions(dataset, split, ("name", "yes_no", "choice", "describe"))
        for question in asked:
            record = records[question.path]
            label, (caption, *_) = record.labels["kind"], record.captions
            assert (record.split, record.group, record.source) == (split, question.group, question.dataset_name)
            assert caption in question.meta_info
            if question.task_name in ("kind_name", "kind_choice"):
                assert (question.question, question.answer_gt) == ("Which kind is it?", label)
            elif question.task_name.endswith("yes_no"):
                assert question.answer_gt == ("Yes." if f" {label} " in question.question.replace("?", " ") or
                                              f" {label}?" in question.question else "No.")  # fmt: skip
            else:
                assert (question.task_name, question.answer_gt) == ("describe", caption)
    assert set(count_kinds(sides["train"])) == {"describe", "kind_choice", "kind_name", "kind_yes_no", "tags_yes_no"}
    groups = [{question.group for question in asked} for asked in sides.values()]
    assert not groups[0] & groups[1]
    limited = template_questions(dataset, "train", ("name",), ["kind"], 10)
    assert len(limited) == 10
    assert set(limited) < set(sides["train"])


def test_the_words_of_a_question_do_not_tell_its_answer(dataset):
    """No wording has a better answer than a guess though two thirds are dogs, and an option no better place."""
    records = list(dataset.records)
    common = [dataclasses.replace(r, labels={"kind": "dog"}, tags=()) if i % 2 else r for i, r in enumerate(records)]
    asked = template_questions(type(dataset)(common), "train", ("yes_no", "choice"), ["kind"])
    yes_no = of_kind(asked, "kind_yes_no")
    for wording in {question.question for question in yes_no}:
        said = [question.answer_gt == "Yes." for question in yes_no if question.question == wording]
        assert np.mean(said) == 0.5, wording
    assert len(yes_no) > 60
    choice = of_kind(asked, "kind_choice")
    assert all(set(question.choices) == set(KINDS) for question in choice)
    places = collections.Counter(question.choices.index(question.answer_gt) for question in choice)
    assert all(0.22 < places[k] / len(choice) < 0.45 for k in range(3))


def test_labels_are_asked_for_as_people_write_them(dataset):
    named = [dataclasses.replace(r, labels={"sound_kind": f"wild_{r.labels['kind']}"}) for r in dataset.records]
    asked = template_questions(type(dataset)(named), "test", ("name", "yes_no", "choice"), ["sound_kind"])
    assert {question.question for question in of_kind(asked, "sound_kind_name")} == {"Which sound kind is it?"}
    assert not any("_" in " ".join((q.question, q.answer_gt, *q.choices)) for q in asked)
    assert "Is the sound kind wild dog?" in {question.question for question in asked}


def test_what_cannot_be_asked_is_said(dataset):
    with pytest.raises(UserError, match="unknown kind of question 'nam'"):
        template_questions(dataset, "train", ("nam",))
    with pytest.raises(UserError, match="unknown task 'kid'"):
        template_questions(dataset, "train", ("name",), ["kid"])
    with pytest.raises(UserError, match="nothing to ask about split 'train'"):
        template_questions(dataset, "train", ("name",), ["tags"])
    records = list(dataset.records)
    records[5] = dataclasses.replace(records[5], group="group 0")
    with pytest.raises(DataError, match="group 0"):
        template_questions(type(dataset)(records), "train", ("name",))


def test_long_sounds_are_averaged_down():
    frames = np.arange(10, dtype=np.float16)[:, None]
    assert reduce_frames(frames, 10)[:, 0].tolist() == list(range(10))
    assert reduce_frames(frames, 4)[:, 0].tolist() == [0.5, 3.0, 5.5, 8.0]


def test_clips_and_files_give_the_same_frames(dataset, encoder, config, tmp_path, capsys):
    soundfile = pytest.importorskip("soundfile")
    records = dataset.records[:3]
    asked = [Question(i, records[i].id, "?", "a", "t", "d") for i in range(3)]
    options = {"bucket_seconds": (0.1, 0.2), "max_frames": 4}
    clips = ClipSounds(encoder, dataset, asked, tmp_path / "cache", config, **options)(asked)
    (tmp_path / "t_d").mkdir()
    files = [dataclasses.replace(question, path=f"{question.uniq_id}.wav") for question in asked]
    for question, record in zip(files, records, strict=True):
        soundfile.write(tmp_path / "t_d" / question.path, record.audio, 16_000)
    reader = FileSounds(encoder, tmp_path, max_seconds=0.2, batch_seconds=0.4, max_frames=4, workers=1)
    *found, lost = reader([*files, dataclasses.replace(asked[0], path="lost.wav")])
    assert lost is None
    assert "lost.wav" in capsys.readouterr().err
    for one, other in zip(clips, found, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3)  # the data set's are stored as float16
    with pytest.raises(UserError, match="question 'x' is about 'nowhere', which the data set does not have"):
        ClipSounds(encoder, dataset, [Question("x", "nowhere", "?", "a", "t", "d")], tmp_path, config, **options)


@pytest.fixture
def command(dataset, encoder, config, qwen_folder, tmp_path, monkeypatch):
    """``alp qa`` on the data set and the planted encoder."""
    run_config = RunConfig(data=DataConfig(bucket_seconds=(0.1, 0.2)), evaluation=config)
    monkeypatch.setattr(evaluate_module, "eval_model", lambda *_: (encoder, run_config))
    for module in (dataset_module, actions):
        monkeypatch.setattr(module, "open_dataset", lambda _: dataset)

    def alp(action, *rest):
        sided = action in ("train", "answer")
        model = ["--run", "r", "--qa_model", qwen_folder, "--dtype", "float32", "--max_seconds", 0.2] if sided else []
        return main(["qa", action, *map(str, [*model, *rest])])

    return alp


def test_from_labels_to_scores_by_the_command(command, tmp_path, capsys):
    for split in ("train", "test"):
        assert command("questions", "--data", "d", "--split", split, "--kinds", "name", "--out", tmp_path / split) == 0
    assert command("questions", "--data", "d", "--split", "test", "--out", tmp_path / "all.jsonl") == 0
    for split in ("train", "test"):
        (tmp_path / split).rename(tmp_path / f"{split}.jsonl")
    small = ("--steps", 40, "--rate", 0.01, "--stack", 2, "--hidden", 24, "--max_frames", 6)
    adapter = tmp_path / "adapter"
    assert command("train", "--questions", tmp_path / "train.jsonl", "--out", adapter, *small) == 0
    assert not (adapter / "cache").exists()
    assert command("train", "--questions", tmp_path / "train.jsonl", "--out", adapter, *small) == 2
    assert "already holds an adapter" in capsys.readouterr().err
    answers = tmp_path / "answers.jsonl"
    ask = ("--questions", tmp_path / "test.jsonl", "--adapter", adapter, "--max_tokens", 4)
    capsys.readouterr()
    assert command("answer", *ask, "--out", answers, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["answers"] == len(read_questions(tmp_path / "test.jsonl")) == len(read_answers(answers))
    assert command("score", answers, "--out", tmp_path / "results") == 0
    assert "qa_kind_name" in capsys.readouterr().out
    result = json.loads((tmp_path / "results" / "qa_kind_name-answers.json").read_text())
    assert (result["metric"], result["model"]) == ("exact_match", "planted")
    assert result["value"] > 0.9 > 0.5 > result["chance"]
    assert command("answer", *ask[:1], tmp_path / "all.jsonl", *ask[2:], "--out", answers) == 2
    assert "made from other inputs" in capsys.readouterr().err


def test_wrong_input_is_one_line(command, tmp_path, capsys, monkeypatch):
    for name in ("ALP_JUDGE_URL", "ALP_JUDGE_MODEL", "ALP_JUDGE_KEY"):
        monkeypatch.delenv(name, raising=False)
    answers = tmp_path / "a.jsonl"
    record = {"path": "a", "question": "b", "answer_gt": "c", "task_name": "d", "dataset_name": "e", "uniq_id": 1}
    answers.write_text(json.dumps(record | {"response": "c"}) + "\n")
    for action, rest, words in (
        ("judge", (answers, "--out", tmp_path / "j.jsonl"), "set ALP_JUDGE_URL"),
        ("score", (tmp_path / "none.jsonl", "--out", tmp_path), "none.jsonl cannot be read"),
        ("questions", ("--data", "d", "--split", "dev", "--out", "q"), "invalid choice"),
        ("train", ("--questions", answers, "--out", "o", "--steps", 0), "--steps = 0 must be above 0"),
        ("answer", ("--questions", answers, "--out", "o", "--adapter", tmp_path / "x"), "adapter.json does not exist"),
    ):
        assert command(action, *rest) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert words in error
