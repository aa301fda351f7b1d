"""The questions as a user asks them: of a CSV, in words, as JSON, and wrongly."""

import csv
import json

import numpy as np
import pytest

from alp_jax.cli import main as cli


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Three curves of planted laws with hours, operations and sources."""
    rng = np.random.default_rng(0)
    rows = []
    for objective, init, sources, scale in (
        ("contrastive", "scratch", "", 1.0),
        ("contrastive", "audioset", "", 0.9),
        ("captioning", "scratch", "", 1.2),
        ("contrastive", "scratch", "-speech", 1.1),
    ):
        for pairs in (1000, 4000, 16_000, 64_000)[3 if sources else 0 :]:
            for seed in range(2):
                row = {"run": f"{objective}-{init}{sources}-{pairs}-{seed}", "objective": objective, "init": init}
                row |= {"model": "m", "task": "tags", "pooling": "mean", "metric": "map", "sources": sources}
                error = scale * (0.1 + 1.5 * pairs**-0.25) * np.exp(0.005 * rng.standard_normal())
                row |= {"params": 100, "pairs": pairs, "steps": 1, "samples_seen": 2 * pairs, "flops": 1e6 * pairs}
                rows.append(row | {"seed": seed, "value": 1 - error, "wall_seconds": 0.1 * pairs})
    path = tmp_path_factory.mktemp("table") / "runs.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (["crossover", "--a", "contrastive", "--b", "captioning"], "none within 10^9 pairs, contrastive stays ahead"),
        (["equivalent", "--start", "audioset"], "64000 pairs: worth "),
        (["sources"], "speech: without it +"),
        (["budget", "--flops", "1e11", "--where", "sources="], "contrastive: 100 parameters"),
        (["plan", "--budget_device_hours", "1"], "another seed at"),
    ],
)
def test_every_question_is_answered_in_words_and_as_json(table, capsys, action, said, tmp_path):
    file = tmp_path / "a.json"
    where = [] if "sources" in action or "--where" in action else ["--where", "sources=,task=tags"]
    command = ["scaling", *action, "--ledger", table, "--replicas", "20", "--out", str(file), *where]
    assert cli.main(command) == 0
    assert said in capsys.readouterr().out
    assert json.loads(file.read_text())["answers"]
    if "--a" in action:
        assert cli.main([*command, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == json.loads(file.read_text())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--where", "taks=1"], "--where taks=1: the table has no such column (did you mean 'task'?)"),
        (["--where", "task=tag"], "no such row (did you mean 'tags'?)"),
        (["--where", "task"], "expected COLUMN=VALUE"),
        (["--where", "objective=captioning,init=audioset"], "no row has all of these"),
        (["--budget_device_hours", "0"], "a number above 0"),
        (["--replicas", "3"], "from 20 to 100000"),
    ],
)
def test_mistakes_are_one_line_that_names_them(table, capsys, change, said):
    assert cli.main(["scaling", "plan", "--ledger", table, "--budget_device_hours", "1", *change]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
