"""Published records there and back, records that are not as they must be, resumed files, and offline scores."""

import json

import numpy as np
import pytest

from alp_jax.core.errors import UserError
from alp_jax.evaluation.qa import score
from alp_jax.evaluation.qa.format import audio_path, parse, read_answers, read_questions, write_questions
from alp_jax.evaluation.qa.journal import Journal
from alp_jax.evaluation.stats.bootstrap import Resamples, entries
from alp_jax.evaluation.stats.metrics import mean

CHAT = {
    "meta_info": "[{'speaker': 'speaker 1'}]",
    "question": "What name did the first person give?",
    "answer_gt": "wally",
    "path": "0.72_28.54.wav",
    "task_name": "speech_dialogue_QA",
    "dataset_name": "fisher",
    "uniq_id": 5,
}
CHOICE = {
    "path": "1.wav",
    "question": "Which instrument is it?",
    "choice_a": "a flute",
    "choice_b": "a drum",
    "choice_c": "a flute and a drum",
    "choice_d": None,
    "answer_gt": "a drum",
    "task_name": "Music_Instruments_Classfication",
    "dataset_name": "nsynth",
    "uniq_id": 6,
}


def test_published_records_are_read_and_asked_as_published(tmp_path):
    (tmp_path / "Chat_meta.json").write_text(json.dumps([CHAT, CHOICE]))
    chat, choice = read_questions(tmp_path / "Chat_meta.json")
    assert chat.prompt() == CHAT["question"]
    assert chat.record() == CHAT
    assert choice.prompt() == (
        "Choose the most suitable answer from options A, B, and C to respond the question in next line, you may only "
        "choose A or B or C.\nWhich instrument is it?\nA. a flute\nB. a drum\nC. a flute and a drum"
    )
    four = parse({**CHOICE, "choice_d": "a horn"}, "it").prompt().split("\n")[0]
    assert four.endswith("from options A, B, C, and D to respond the question in next line, you may only choose "
                         "A or B or C or D.")  # fmt: skip
    assert choice.target() == "B. a drum"
    assert audio_path(tmp_path, chat) == tmp_path / "speech_dialogue_QA_fisher" / "0.72_28.54.wav"
    grounding = parse({**CHAT, "task_name": "Audio_Grounding"}, "it")
    assert audio_path(tmp_path, grounding).name == "0.72_28.54.flac"
    write_questions(tmp_path / "again.jsonl", [chat, choice])
    assert read_questions(tmp_path / "again.jsonl") == [chat, choice]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({**CHAT, "question": " "}, "record 2: question is missing, empty or not text"),
        ({**CHAT, "uniq_id": None}, "record 2: uniq_id is missing"),
        (CHAT, "record 2 repeats uniq_id 5 of an earlier one"),
        ({**CHOICE, "answer_gt": "a horn"}, "answer_gt 'a horn' must be one of at least two choices"),
        ({**CHOICE, "choice_a": None}, "choice_a, choice_b, choice_c, choice_d must be texts, given in that order"),
        ({**CHAT, "path": "../../etc/passwd"}, "points outside the audio folder"),
        ({**CHAT, "answer_gt": "\ud800"}, "half of a surrogate pair"),
        ([1], "record 2 is not a JSON object"),
    ],
)
def test_what_is_no_question_is_named(tmp_path, record, words):
    path = tmp_path / "q.json"
    path.write_text(json.dumps([CHAT, record]))
    with pytest.raises(UserError, match=words):
        read_questions(path)


def test_damaged_files_are_named(tmp_path):
    for name, text, words in (
        ("a.json", "{}", "does not hold a list of records"),
        ("b.jsonl", '{"a": 1}\n{"b"', "line 2 is not JSON"),
        ("c.json", "[", "is not readable JSON"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=words):
            read_questions(tmp_path / name)
    (tmp_path / "d.jsonl").write_text(json.dumps(CHAT) + "\n")
    with pytest.raises(UserError, match="uniq_id 5 has no response"):
        read_answers(tmp_path / "d.jsonl")


def test_a_journal_goes_on_behind_its_last_whole_line(tmp_path):
    path = tmp_path / "out.jsonl"
    journal = Journal(path, {"model": "a"})
    journal.add([{"uniq_id": 1, "response": "x\u2028y"}, {"uniq_id": 2}])
    with journal.partial.open("a") as file:
        file.write('{"uniq_id": 3, "respon')
    again = Journal(path, {"model": "a"})
    assert again.done == {1: {"uniq_id": 1, "response": "x\u2028y"}, 2: {"uniq_id": 2}}
    assert not path.exists()
    again.add([{"uniq_id": 3}])
    assert again.finish([3, 1, 2])[0] == {"uniq_id": 3}
    assert not again.partial.exists()
    assert [json.loads(line)["uniq_id"] for line in path.read_text().split("\n")[:-1]] == [3, 1, 2]
    assert Journal(path, {"model": "a"}).done.keys() == {1, 2, 3}
    with pytest.raises(UserError, match="made from other inputs"):
        Journal(path, {"model": "b"})


@pytest.mark.parametrize(
    ("response", "option"),
    [
        ("B", 1), ("b.", None), ("B. a drum", 1), ("(C)", 2), ("**A**", 0), ("The answer is B.", 1), ("Answer: c", 2),
        ("I would say A", 0), ("A flute", 0), ("A drum", 1), ("The answer is a drum.", 1),
        ("It is a flute!", 0), ("a flute and a drum", 2), ("a drum", 1),
        ("it is a drum, not a flute", None), ("D", None), ("A's sound", None), ("", None), ("Certainly", None),
    ],
)  # fmt: skip
def test_the_option_that_a_response_picks(response, option):
    assert score.chosen(parse(CHOICE, "it"), response) == option


def answers(count=40):
    """Two tasks: options, a quarter right and a quarter unreadable, and open questions of which half are right."""
    found = []
    for i in range(count):
        right = "flute" if i % 2 else "drum"
        options = {f"choice_{letter}": name for letter, name in zip("ab", ("flute", "drum"), strict=True)}
        record = {**CHAT, "path": f"{i // 2}.wav", "answer_gt": right, "uniq_id": i}
        letter = "A" if i % 2 else "B"
        response = (letter, "no idea", "AB"[letter == "A"], "AB"[letter == "A"])[i % 4]
        found.append((parse({**record, **options, "task_name": "pick"}, "it"), response))
        said = f"A {right}.".lower() if i % 4 < 2 else "noise"
        found.append((parse({**record, "answer_gt": f"a {right}", "task_name": "say"}, "it"), said))
    return found


def test_scores_have_intervals_and_chance():
    pick, say = (result.to_json() for result in score.results(answers(), {"model": "m"}))
    assert (pick["task"], pick["metric"], pick["value"], pick["chance"]) == ("qa_pick", "accuracy", 0.25, 0.5)
    assert pick["metrics"]["readable"]["value"] == 0.75
    assert (say["metric"], say["value"], say["chance"]) == ("exact_match", 0.5, 0.5)
    assert (pick["n_test"], pick["groups_test"], pick["interval_over"], pick["model"]) == (40, 20, "groups", "m")
    for result in (pick, say):
        low, high = result["interval"]
        assert low < result["value"] < high
        assert 0.1 < high - low < 0.6
    assert say["interval"][1] - say["interval"][0] > 0.36  # two answers to a sound are alike: 20 sounds, not 40 answers


def test_only_the_answers_that_count_move_a_mean():
    counted = np.arange(40) % 20 < 8
    found = score.mean_of_counted(np.arange(16) % 2, counted)
    assert found.value == 0.5
    assert not found.influence_N[~counted].any()
    by_sound = Resamples([f"{i % 20}.wav" for i in range(40)])
    result = entries({"readable": [found]}, by_sound, {})["readable"]
    alone = entries({"readable": [mean(np.arange(8) % 2)]}, Resamples(list("abcdefgh")), {})["readable"]
    np.testing.assert_allclose(result["interval"], alone["interval"], atol=0.03)  # eight sounds, however many are not


def test_chance_of_wordings_that_never_come_back_is_guessing():
    found = [(parse({**CHOICE, "question": f"Is it {i}?", "uniq_id": i}, "it"), "B") for i in range(12)]
    (result,) = score.results(found, {})
    numbers = result.metrics["accuracy"]
    assert (numbers["value"], numbers["chance"]) == (1.0, pytest.approx(1 / 3))
