"""The ledger: nothing that was written is lost, nothing that is damaged is believed."""

import csv
import itertools
import json
import random

import pyarrow.parquet as pq
import pytest

from alp_jax.core.errors import StorageError, UserError
from alp_jax.scaling.sweep import ledger as module
from alp_jax.scaling.sweep.ledger import COLUMNS, TABLE, Ledger, collect


def row(run="a", task="speaker", value=0.5):
    numbers = dict.fromkeys(COLUMNS, 1.0)
    names = dict.fromkeys(("objective", "init", "model"), "m")
    return {**numbers, **names, "run": run, "task": task, "pooling": "mean", "metric": "accuracy", "value": value}


def test_rows_come_back_sorted_and_the_last_one_of_a_key_wins(tmp_path):
    Ledger(tmp_path / "l.jsonl").append([row("b"), row("a", value=0.1), row("a", value=0.2)])
    table = Ledger(tmp_path / "l.jsonl").table()
    assert [(r["run"], r["value"]) for r in table] == [("a", 0.2), ("b", 0.5)]


def test_a_last_line_that_was_cut_off_anywhere_is_reported_and_removed_by_the_next_write(tmp_path):
    path = tmp_path / "l.jsonl"
    Ledger(path).append([row("a"), row("b"), row("c")])
    content = path.read_bytes()
    start = content.rindex(b"\n", 0, len(content) - 1) + 1
    for cut in [*range(start + 1, len(content) - 1, 7), len(content) - 1]:
        path.write_bytes(content[:cut])
        torn = Ledger(path)
        assert [r["run"] for r in torn.table()] == ["a", "b"]
        assert torn.problems == [f"{path} line 3 is incomplete (a write was cut off)"]
        torn.append([])
        assert path.read_bytes() == content[:start]
        path.write_bytes(content[:cut])
        Ledger(path).append([row("d")])
        whole = Ledger(path)
        assert [r["run"] for r in whole.table()] == ["a", "b", "d"]
        assert not whole.problems
    path.write_bytes(content[:start])
    assert not Ledger(path).problems


def test_every_flipped_byte_is_noticed_and_its_line_named(tmp_path):
    path = tmp_path / "l.jsonl"
    Ledger(path).append([row("a"), row("b"), row("c")])
    content = path.read_bytes()
    rng = random.Random(0)
    for _ in range(200):
        position = rng.randrange(len(content) - 1)
        flipped = bytearray(content)
        flipped[position] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        line = content[:position].count(b"\n") + 1
        with pytest.raises(UserError, match=f"line {line} is damaged"):
            Ledger(path)
        assert path.read_bytes() == flipped


def test_the_tables_are_the_same_bytes_whatever_the_order_and_the_clock(tmp_path):
    rows = [row(run, task, value=0.1 * i) for i, (run, task) in enumerate(itertools.product("abc", ("x", "y")))]
    rows[2]["interval_low"] = None
    files = []
    for number in range(3):
        random.Random(number).shuffle(rows)
        ledger = Ledger(tmp_path / f"{number}.jsonl")
        for one in rows:
            ledger.append([{**one, "wall_seconds": random.random()}])
        ledger.write_csv(tmp_path / f"{number}.csv")
        ledger.write_parquet(tmp_path / f"{number}.parquet")
        files.append([(tmp_path / f"{number}.{kind}").read_bytes() for kind in ("csv", "parquet")])
    assert files[0] == files[1] == files[2]
    table = pq.read_table(tmp_path / "0.parquet")
    assert tuple(table.column_names) == TABLE
    with (tmp_path / "0.csv").open() as file:
        for line, one in zip(csv.DictReader(file), table.to_pylist(), strict=True):
            assert (line["run"], line["task"]) == (one["run"], one["task"])
            assert float(line["value"]) == one["value"]
            assert (line["interval_low"] == "") == (one["interval_low"] is None)
    ledger.append([{**row(), "value": "much"}])
    with pytest.raises(UserError, match="another type"):
        ledger.write_parquet(tmp_path / "no.parquet")
    assert not (tmp_path / "no.parquet").exists()


def test_a_short_write_is_an_error_and_the_next_row_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "l.jsonl"
    real = module.os.write
    monkeypatch.setattr(module.os, "write", lambda handle, data: real(handle, data[: len(data) // 2]))
    with pytest.raises(StorageError, match="disk is full"):
        Ledger(path).append([row("a")])
    monkeypatch.undo()
    ledger = Ledger(path)
    assert ledger.table() == []
    ledger.append([row("a")])
    assert [r["run"] for r in Ledger(path).table()] == ["a"]


def test_collecting_twice_appends_nothing_and_a_dropped_run_is_retired(tmp_path, finished):
    folders = [finished(tmp_path / "runs" / name, seed=i) for i, name in enumerate(("a", "b"))]
    path = tmp_path / "ledger.jsonl"
    first = collect(path, folders)
    assert len(first.table()) == 2 * (8 * 2 + 4 * 4)
    assert not first.problems
    size = path.stat().st_size
    collect(path, folders)
    assert path.stat().st_size == size
    collect(path, folders[1:])
    assert {r["run"] for r in Ledger(path).table()} == {"b"}
    with (tmp_path / "ledger.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == TABLE
    assert {r["run"] for r in rows} == {"b"}
    speaker = next(r for r in rows if (r["task"], r["pooling"], r["metric"]) == ("speaker", "mean", "accuracy"))
    assert float(speaker["interval_high"]) - float(speaker["value"]) == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("eval/speaker-mean.json", "{", "not readable JSON"),
        ("eval/speaker-mean.json", "{}", "has no 'task'"),
        ("eval/speaker-mean.json", None, "not a finite number"),
        ("summary.json", "{}", "has no 'run'"),
    ],
)
def test_results_that_cannot_be_used_are_named(tmp_path, finished, name, text, words):
    folder = finished(tmp_path / "runs" / "a")
    if text is None:
        values = json.loads((folder / name).read_text())
        values["metrics"]["accuracy"]["value"] = float("nan")
        text = json.dumps(values)
    (folder / name).write_text(text)
    ledger = collect(tmp_path / "ledger.jsonl", [folder])
    assert len(ledger.problems) == 1
    assert words in ledger.problems[0]
    assert name in ledger.problems[0]
    assert len(ledger.table()) == (0 if name == "summary.json" else 30)


def test_a_task_that_failed_is_reported_with_its_reason(tmp_path, finished):
    folder = finished(tmp_path / "runs" / "a")
    (folder / "eval" / "tags-mean.failed").write_text("ValueError: no tags\n")
    ledger = collect(tmp_path / "ledger.jsonl", [folder])
    assert len(ledger.problems) == 1
    assert ledger.problems[0].endswith("tags-mean.failed: ValueError: no tags")
