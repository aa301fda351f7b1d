"""What a run leaves behind comes back as it was written, and what is wrong with it is said by file and field."""

import dataclasses
import json
import os

import pytest

from alp_jax.core.errors import UserError
from alp_jax.core.files import write_json
from alp_jax.core.run_files import (
    DONE,
    LEASE,
    LEASE_S,
    SUMMARY,
    Result,
    RunSummary,
    failure_file,
    failure_files,
    is_done,
    is_leased,
    result_file,
    result_files,
)

RUN = RunSummary("a", "hybrid", "scratch", "zipformer_xxs", 412_345, 4000, 300, 9600, 27000.5, 3e12, 0, 40.0)
NUMBERS = {"value": 0.5, "interval": [0.4, 0.6], "chance": 0.25, "floor": None}
RESULT = Result(
    "speaker", "mean", "accuracy", {"accuracy": NUMBERS, "balanced_accuracy": {**NUMBERS, "value": 1}}, {"n_test": 300}
)


def test_a_summary_comes_back_as_it_was_written(tmp_path):
    write_json(tmp_path / SUMMARY, RUN.to_json())
    assert RunSummary.read(tmp_path) == RUN
    with pytest.raises(UserError, match=r"run summary .*/b/summary.json does not exist"):
        RunSummary.read(tmp_path / "b")


def test_a_result_comes_back_as_it_was_written_with_its_headline_beside_the_other_facts(tmp_path):
    path = result_file(tmp_path, RESULT.task, RESULT.pooling)
    write_json(path, RESULT.to_json())
    assert Result.read(path) == RESULT
    content = json.loads(path.read_text())
    assert {key: content[key] for key in NUMBERS} == NUMBERS
    assert content["n_test"] == 300


@pytest.mark.parametrize("field", [one.name for one in dataclasses.fields(RunSummary)])
def test_a_summary_without_a_field_or_with_another_type_is_refused_in_one_line(field):
    content = RUN.to_json()
    for wrong in (None, [], True, float("nan")):
        with pytest.raises(UserError, match=rf"run summary r/summary.json: {field} is .*, not a"):
            RunSummary.from_json({**content, field: wrong}, "r/summary.json")
    del content[field]
    with pytest.raises(UserError, match=f"run summary r/summary.json has no '{field}'"):
        RunSummary.from_json(content, "r/summary.json")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"task": None}, "result r.json: task is None, not a text"),
        ({"metric": "map"}, "result r.json: metrics has no 'map'"),
        ({"metrics": []}, r"result r.json: metrics is \[\], not a JSON object"),
        ({"metrics": {"accuracy": 0.5}}, "result r.json: metrics.accuracy is 0.5, not a JSON object"),
        ({"metrics": {"accuracy": {"value": 0.5}}}, "result r.json: metrics.accuracy has no 'chance'"),
        ({"value": None}, "metrics.accuracy: value is None, not a finite number"),
        ({"value": float("inf")}, "metrics.accuracy: value is inf, not a finite number"),
        ({"value": True}, "metrics.accuracy: value is True, not a finite number"),
        ({"chance": "low"}, "metrics.accuracy: chance is 'low', not a finite number or null"),
        ({"floor": float("nan")}, "metrics.accuracy: floor is nan, not a finite number or null"),
        ({"interval": 0.5}, "metrics.accuracy: interval is 0.5, not a list or null"),
        ({"interval": [0.1]}, r"metrics.accuracy: interval is \[0.1\], not two finite numbers"),
        ({"interval": [0.1, None]}, r"metrics.accuracy: interval is \[0.1, None\], not two finite numbers"),
    ],
)
def test_a_result_that_cannot_be_used_is_refused_in_one_line(change, words):
    content = RESULT.to_json()
    if change.keys() & NUMBERS.keys():
        change = {"metrics": {"accuracy": NUMBERS | change}}
    with pytest.raises(UserError, match=words):
        Result.from_json(content | change, "r.json")
    for other in (None, [], 3):
        with pytest.raises(UserError, match=r"result r\.json is .*, not a JSON object"):
            Result.from_json(other, "r.json")


def test_a_result_may_have_no_interval_no_chance_and_no_floor():
    none = {"value": 40.5, "interval": None, "chance": None, "floor": None}
    content = Result("text_to_audio", "joint", "median_rank", {"median_rank": none}).to_json()
    assert Result.from_json(content, "r.json").metrics["median_rank"] == none


def test_results_and_failures_are_found_by_name_and_in_order(tmp_path):
    for task in ("b", "a"):
        result_file(tmp_path, task, "mean").touch()
        failure_file(tmp_path, task, "lit").touch()
    assert [path.name for path in result_files(tmp_path)] == ["a-mean.json", "b-mean.json"]
    assert [path.name for path in failure_files(tmp_path)] == ["a-lit.failed", "b-lit.failed"]


def test_a_run_is_done_by_its_mark_and_at_work_while_its_lease_is_fresh(tmp_path):
    assert not is_done(tmp_path)
    assert not is_leased(tmp_path)
    (tmp_path / DONE).touch()
    (tmp_path / LEASE).touch()
    assert is_done(tmp_path)
    assert is_leased(tmp_path)
    now = (tmp_path / LEASE).stat().st_mtime
    os.utime(tmp_path / LEASE, (now, now - LEASE_S - 1))
    assert not is_leased(tmp_path)
