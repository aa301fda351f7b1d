"""The judge behind a stub server: what is asked, retries, refusals, nonsense, a stop in the middle, and the key."""

import json
import threading

import pytest

from alp_jax.cli.main import main
from alp_jax.core.errors import AlpError, UserError
from alp_jax.evaluation.qa import judge
from alp_jax.evaluation.qa.format import Question, jsonl
from alp_jax.evaluation.qa.journal import Journal

KEY = "sk-very-secret"
GOOD = Question(1, "1.wav", "What is heard?", "a dog", "sound_QA", "clotho", meta_info="a dog {barks}")
ANSWERS = [
    (Question(i, f"{i}.wav", f"What is heard in {i}?", "a dog", "sound_QA", "clotho", meta_info="a dog"), f"guess {i}")
    for i in range(12)
]


@pytest.fixture
def there(server, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return judge.endpoint({judge.URL: f"http://127.0.0.1:{server.server_port}/v1/", judge.MODEL: "m", judge.KEY: KEY})


def test_both_orders_are_asked_and_scores_belong_to_the_right_answer_first(server, there):
    server.reply = lambda prompt, _: "9 4" if prompt.index("a dog\n[The End") < prompt.index("a cat") else "3 8"
    record = judge.rate(there, GOOD, "a cat", swap=True)
    assert record == {"uniq_id": 1, "replies": ["9 4", "3 8"], "scores": [[9, 4], [8, 3]]}
    path, authorization, model, prompt = server.seen[0]
    assert (path, authorization, model) == ("/v1/chat/completions", f"Bearer {KEY}", "m")
    assert "[Detailed Audio Description]\na dog {barks}\n[Question]\nWhat is heard?\n" in prompt
    assert len(judge.rate(there, GOOD, "a cat", swap=False)["scores"]) == 1


def test_busy_and_broken_servers_are_asked_again_with_growing_waits(server, there):
    waits = []
    server.reply = lambda _, times: (500, 503, None, 429, "7 7")[times - 1]
    assert judge.ask(there, "hello", sleep=waits.append) == "7 7"
    assert 0.5 <= waits[0] <= 1.0 <= waits[1] <= 2.0 <= waits[2] <= 4.0
    assert waits[3:] == [3.0]  # as the server asks
    server.reply = lambda *_: 500
    with pytest.raises(judge.NoReply, match="no reply after 6 attempts, the last one with status 500"):
        judge.ask(there, "again", sleep=waits.append)
    assert server.asked["again"] == 6


def test_a_server_that_says_nothing_times_out(server, there):
    release = threading.Event()
    server.reply = lambda *_: release.wait(5) and "1 1"
    with pytest.raises(judge.NoReply, match="the last one with TimeoutError"):
        judge.ask(there, "hello", timeout_s=0.05, sleep=lambda _: None)
    release.set()


@pytest.mark.parametrize("status", [401, 404, 302])
def test_refusals_and_redirects_end_at_once_and_never_show_the_key(server, there, status):
    server.reply = lambda *_: status
    with pytest.raises(UserError, match=f"refused with status {status}") as caught:
        judge.ask(there, "hello", sleep=lambda _: None)
    assert [path for path, *_ in server.seen] == ["/v1/chat/completions"]
    assert KEY not in str(caught.value) + repr(there)


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("8 7", (8, 7)), (" 10, 1.\n", (10, 1)), ("8.0 7.0", (8, 7)), ("11 3", None), ("0 5", None), ("8", None),
        ("Assistant 1: 8", None), ("8 7 6", None), ("8 7\nbecause it is better", None), ("", None),
    ],
)  # fmt: skip
def test_scores_are_two_whole_numbers_and_nothing_else(reply, found):
    assert judge.scores(reply) == found


def test_results_that_are_there_are_kept_and_not_asked_for_again(server, there, tmp_path, capsys):
    def journal():
        return Journal(tmp_path / "rated.jsonl", {"judge": "m"})

    def rate(reply, workers=1):
        server.reply = reply
        return judge.rate_all(there, ANSWERS, journal(), swap=False, workers=workers, sleep=lambda _: None)

    with pytest.raises(AlpError, match=r"rated all but 2 of 12 answers \(no reply after 6 attempts"):
        rate(lambda prompt, _: 503 if "in 3?" in prompt or "in 5?" in prompt else "9 6", workers=3)
    assert not (tmp_path / "rated.jsonl").exists()
    before = len(server.seen)
    records = rate(lambda prompt, _: "9 3" if "in 3?" in prompt else "I like both")
    assert len(server.seen) == before + 2
    assert [record["uniq_id"] for record in records] == list(range(12))
    measured = judge.measure([question for question, _ in ANSWERS], records).values
    assert measured["score"]["value"] == pytest.approx((10 * 6 + 3) / 11)
    assert measured["reference_score"]["value"] == 9
    assert measured["win_rate"]["value"] == 0
    assert measured["readable"]["value"] == pytest.approx(11 / 12)
    result = judge.results([question for question, _ in ANSWERS], records, {"model": "m"})[0].to_json()
    assert (result["task"], result["pooling"], result["metric"], result["n_test"]) == ("qa_sound", "judge", "score", 12)
    assert result["nonsense_replies"] == 1
    assert result["interval"][0] < result["value"] < result["interval"][1]
    output = capsys.readouterr()
    everything = output.out + output.err + "".join(path.read_text() for path in tmp_path.iterdir())
    assert KEY not in everything


def test_a_dead_endpoint_is_left_after_a_few_and_a_refusal_keeps_the_rest(server, there, tmp_path):
    journal = Journal(tmp_path / "a.jsonl", {})
    server.reply = lambda *_: 503
    with pytest.raises(AlpError, match="all but 12 of 12"):
        judge.rate_all(there, ANSWERS, journal, swap=False, workers=1, sleep=lambda _: None)
    assert len(server.asked) < 12
    server.reply = lambda prompt, _: 401 if "in 6?" in prompt else "2 9"
    with pytest.raises(UserError, match="refused with status 401"):
        judge.rate_all(there, ANSWERS, journal, swap=False, workers=1, sleep=lambda _: None)
    assert set(range(6)) <= set(Journal(tmp_path / "a.jsonl", {}).done) < set(range(12))


def test_what_was_being_asked_when_the_endpoint_refused_is_kept(server, there, tmp_path):
    both, refused = threading.Barrier(2, timeout=5), threading.Event()

    def reply(prompt, _):
        both.wait()
        if "in 0?" in prompt:
            return 401
        refused.wait(0.2)  # long enough for the refusal to be seen first
        return "2 9"

    server.reply, journal = reply, Journal(tmp_path / "a.jsonl", {})
    with pytest.raises(UserError, match="refused"):
        judge.rate_all(there, ANSWERS[:2], journal, swap=False, workers=2, sleep=lambda _: None)
    assert Journal(tmp_path / "a.jsonl", {}).done.keys() == {1}


def test_answers_that_are_no_completion_and_no_scores_at_all(server, there):
    server.reply = lambda *_: "<html>"
    with pytest.raises(judge.NoReply, match="not a chat completion"):
        judge.ask(there, "hello")
    with pytest.raises(AlpError, match="no reply of the judge was two scores"):
        judge.measure([GOOD], [{"scores": [None]}])


def test_the_command_rates_and_writes_results_without_the_key(server, there, tmp_path, capsys, monkeypatch):
    for name, value in ((judge.URL, there.url), (judge.MODEL, "m"), (judge.KEY, KEY)):
        monkeypatch.setenv(name, value)
    records = [question.record() | {"response": response} for question, response in ANSWERS]
    (tmp_path / "answers.jsonl").write_text(jsonl(records))
    server.reply = lambda prompt, _: "6 6"
    assert main(["qa", "judge", str(tmp_path / "answers.jsonl"), "--out", str(tmp_path / "out" / "judged.jsonl")]) == 0
    assert len(server.seen) == 24  # in both orders
    result = json.loads((tmp_path / "out" / "qa_sound-judge.json").read_text())
    assert (result["value"], result["judge"], result["model"]) == (6.0, "m", "answers")
    output = capsys.readouterr()
    assert "win_rate" in output.out
    written = "".join(path.read_text() for path in (tmp_path / "out").iterdir())
    assert KEY not in written + output.out + output.err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({judge.URL: ""}, f"set {judge.URL}"),
        ({judge.MODEL: " "}, f"set {judge.MODEL}"),
        ({judge.URL: "ftp://host/v1"}, "must be http"),
        ({judge.URL: "file:///etc/passwd"}, "must be http"),
        ({judge.URL: "http://user:pass@host/v1"}, "without a user"),
        ({judge.KEY: "sk-very\nsecret"}, "characters that are not allowed in a header"),
    ],
)
def test_wrong_environments_name_the_variable_and_not_the_key(changes, words):
    environment = {judge.URL: "http://host/v1", judge.MODEL: "m", judge.KEY: KEY} | changes
    with pytest.raises(UserError, match=words) as caught:
        judge.endpoint(environment)
    assert "secret" not in str(caught.value)
    assert "pass@" not in str(caught.value)
