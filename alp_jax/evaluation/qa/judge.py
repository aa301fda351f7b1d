"""Open answers rated by a language model, behind any endpoint for OpenAI's chat completions.

As in AIR-Bench, the judge reads a description of the sound, the question, the right answer and the response, and scores
both answers from 1 to 10. It is then asked again with the two in the other order, because judges favour one position.
"""

import concurrent.futures
import http.client
import json
import random
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from alp_jax.core.errors import AlpError, UserError
from alp_jax.core.progress import Progress
from alp_jax.core.run_files import JUDGED, Result
from alp_jax.evaluation.measured import Measured, from_estimates
from alp_jax.evaluation.qa import score
from alp_jax.evaluation.qa.format import Question
from alp_jax.evaluation.qa.journal import Journal
from alp_jax.evaluation.stats import bootstrap, metrics

URL, KEY, MODEL = "ALP_JUDGE_URL", "ALP_JUDGE_KEY", "ALP_JUDGE_MODEL"
ATTEMPTS, FIRST_WAIT_S, LONGEST_WAIT_S = 6, 1.0, 60.0
MOST_BYTES = 1 << 20  # bytes of a reply that are read
# chat task -> the category that the published cal_score.py reports it under
CATEGORIES = {
    "speech_QA": "speech",
    "speech_dialogue_QA": "speech",
    "sound_QA": "sound",
    "sound_generation_QA": "sound",
    "music_QA": "music",
    "music_generation_analysis_QA": "music",
    "speech_and_sound_QA": "speech_and_sound",
    "speech_and_music_QA": "speech_and_music",
}
GIVE_UP = 8  # after this many answers in a row without a reply, the rest is left for another run
_SCORES = re.compile(r"\s*(10|[1-9])(?:\.0)?[\s,;/]+(10|[1-9])(?:\.0)?\s*\.?\s*")
_PROMPT = """You are a helpful and precise assistant for checking the quality of the answer.
[Detailed Audio Description]
{sound}
[Question]
{question}
[The Start of Assistant 1s Answer]
{first}
[The End of Assistant 1s Answer]
[The Start of Assistant 2s Answer]
{second}
[The End of Assistant 2s Answer]
[System]
We would like to request your feedback on the performance of two AI assistants in response to the user question and \
audio description displayed above. AI assistants are provided with detailed audio descriptions and questions.
Please rate the helpfulness, relevance, accuracy, and comprehensiveness of their responses. Each assistant receives an \
overall score on a scale of 1 to 10, where a higher score indicates better overall performance. Please output a single \
line containing only two values indicating the scores for Assistant 1 and 2, respectively. The two scores are \
separated by a space."""


class NoReply(Exception):
    """The endpoint gave nothing usable after all attempts; the message never holds the key."""


class Endpoint(NamedTuple):
    """Address, model and key of the judge; its ``repr`` hides the key."""

    url: str
    model: str
    key: str

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r}, {self.model!r})"


def endpoint(environment: Mapping[str, str]) -> Endpoint:
    """The judge that ALP_JUDGE_URL, ALP_JUDGE_MODEL and (if it needs one) ALP_JUDGE_KEY specify.

    Raises:
      UserError: a variable is missing or malformed; the message never holds the key.
    """
    url, model, key = (environment.get(name, "").strip() for name in (URL, MODEL, KEY))
    for name, value in ((URL, url), (MODEL, model)):
        if not value:
            raise UserError(f"set {name}: the judge is any endpoint with OpenAI's chat completions")
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.username or parts.query:
        raise UserError(f"{URL} must be http(s)://HOST/PATH without a user name or a query")
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"{KEY} contains characters that are not allowed in a header")
    path = url.rstrip("/")
    return Endpoint(path if path.endswith("/chat/completions") else path + "/chat/completions", model, key)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, so that the key goes to the named endpoint only."""

    def redirect_request(self, *_) -> None:
        return None


def ask(judge: Endpoint, prompt: str, *, timeout_s: float = 60.0, sleep: Callable[[float], None] = time.sleep) -> str:
    """The judge's reply. Waits and retries after status 429 or 5xx, timeouts and broken connections.

    Raises:
      NoReply: all attempts failed, or the reply is not a chat completion.
      UserError: the endpoint refuses (another 4xx, a redirect), so that retrying would not help.
    """
    body = {"model": judge.model, "messages": [{"role": "user", "content": prompt}], "temperature": 0, "max_tokens": 64}
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {judge.key}"} if judge.key else {})
    request = urllib.request.Request(judge.url, json.dumps(body).encode(), headers, method="POST")
    opener = urllib.request.build_opener(_NoRedirect)
    problem = ""
    for attempt in range(ATTEMPTS):
        wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**attempt) * random.uniform(0.5, 1.0)
        try:
            with opener.open(request, timeout=timeout_s) as response:
                return _content(response.read(MOST_BYTES))
        except urllib.error.HTTPError as error:
            problem = f"status {error.code}"
            if error.code != 429 and error.code < 500:
                raise UserError(
                    f"the judge at {judge.url} refused with {problem}: check {URL}, {KEY}, {MODEL}"
                ) from None
            asked = error.headers.get("Retry-After", "")
            if asked.isdigit():
                wait_s = min(LONGEST_WAIT_S, float(asked))
        except (OSError, http.client.HTTPException) as error:
            problem = type(getattr(error, "reason", error)).__name__
        if attempt + 1 < ATTEMPTS:
            sleep(wait_s)
    raise NoReply(f"no reply after {ATTEMPTS} attempts, the last one with {problem}")


def _content(data: bytes) -> str:
    try:
        text = json.loads(data)["choices"][0]["message"]["content"]
        return text.encode("utf-8", "replace").decode()
    except (ValueError, LookupError, TypeError, AttributeError):
        raise NoReply("the reply is not a chat completion") from None


def scores(reply: str) -> tuple[int, int] | None:
    """The two scores of a reply that consists of two whole numbers from 1 to 10; None for any other reply."""
    match = _SCORES.fullmatch(reply)
    return (int(match[1]), int(match[2])) if match else None


def rate(judge: Endpoint, question: Question, response: str, swap: bool, **options) -> dict[str, Any]:
    """A record of the judge's replies about one response, with the scores [right answer, response] for each order."""
    sound, record = question.meta_info, {"uniq_id": question.uniq_id, "replies": [], "scores": []}
    for turned in (False, True)[: 1 + swap]:
        first, second = (response, question.answer_gt) if turned else (question.answer_gt, response)
        prompt = _PROMPT.format(sound=sound, question=question.question, first=first, second=second)
        reply = ask(judge, prompt, **options)
        given = scores(reply)
        record["replies"].append(reply[:200])
        record["scores"].append(list(given[::-1] if turned else given) if given else None)
    return record


def rate_all(
    judge: Endpoint, answers: Sequence[tuple[Question, str]], journal: Journal, *, swap: bool, workers: int, **options
) -> list[dict[str, Any]]:
    """Rates the answers that ``journal`` lacks, and finishes it; every record is written as soon as it exists.

    Raises:
      AlpError: some answers got no reply; calling again asks for those alone.
      UserError: the endpoint refuses.
    """
    todo = [answer for answer in answers if answer[0].uniq_id not in journal.done]
    missed, row, why = 0, 0, ""
    pool = concurrent.futures.ThreadPoolExecutor(workers)
    jobs = [pool.submit(rate, judge, question, response, swap, **options) for question, response in todo]
    try:
        with Progress("judge", len(todo), "answers") as progress:
            for job in concurrent.futures.as_completed(jobs):
                try:
                    journal.add([job.result()])
                    row = 0
                except NoReply as error:
                    missed, row, why = missed + 1, row + 1, str(error)
                    if row == GIVE_UP:
                        break
                progress.update()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        ended = [job.result() for job in jobs if not job.cancelled() and job.exception() is None]
        journal.add(record for record in ended if record["uniq_id"] not in journal.done)
    if missed:
        left = len(answers) - len(journal.done)
        raise AlpError(
            f"the judge rated all but {left} of {len(answers)} answers ({why}); the same command resumes there"
        )
    return journal.finish(question.uniq_id for question, _ in answers)


def measure(questions: Sequence[Question], records: Sequence[Mapping[str, Any]]) -> Measured:
    """Mean scores (1 to 10) of the responses and of the right answers, and how often a response scores higher.

    Only records whose replies all had two scores count, so that both orders weigh the same; ``readable`` is the share.

    Raises:
      AlpError: no record counts.
    """
    whole_N = np.array([None not in record["scores"] for record in records])
    if not whole_N.any():
        raise AlpError(f"task {questions[0].task_name}: no reply of the judge was two scores from 1 to 10")
    given_NS2 = np.array([record["scores"] for record, whole in zip(records, whole_N, strict=True) if whole], float)
    drawn = bootstrap.Resamples([question.group or question.path for question in questions])
    right_N, ours_N = given_NS2.mean(1).T
    scored = {"score": ours_N, "reference_score": right_N, "win_rate": (given_NS2[..., 1] > given_NS2[..., 0]).mean(1)}
    estimates = {name: [score.mean_of_counted(value_N, whole_N)] for name, value_N in scored.items()}
    estimates["readable"] = [metrics.mean(whole_N)]
    return from_estimates(estimates, drawn, {})


def results(questions: Sequence[Question], records: Sequence[dict], origin: dict[str, Any]) -> list[Result]:
    """One result per category (or per task without one), as ``score.results``, with a count of unreadable replies."""
    members: dict[str, list[int]] = {}
    for i, question in enumerate(questions):
        members.setdefault(CATEGORIES.get(question.task_name, question.task_name), []).append(i)
    written = []
    for name, indices in sorted(members.items()):
        asked = [questions[i] for i in indices]
        rated = [records[i] for i in indices]
        unreadable = sum(given is None for record in rated for given in record["scores"])
        facts = origin | {"nonsense_replies": unreadable}
        written.append(score.result(name, JUDGED, measure(asked, rated), asked, facts))
    return written
