"""A sweep whose runs are in a bucket: the driver works on a copy, readers on another."""

import json
import sys

from alp_jax.cli import main as cli
from alp_jax.core import storage
from alp_jax.scaling.laws.read_table import read_table
from alp_jax.scaling.questions.best_run import best_run
from alp_jax.scaling.sweep.driver import Sweep, train_command
from alp_jax.scaling.sweep.folder import local_sweep
from alp_jax.scaling.sweep.plan import PlannedRun
from tests.s3_server import s3  # noqa: F401

VALUES = {"value": 0.5, "interval": [0.4, 0.6], "chance": 0.1, "floor": None}
RESULT = {"task": "t", "pooling": "mean", "metric": "accuracy", **VALUES, "metrics": {"accuracy": VALUES}}
SUMMARY = {
    **dict.fromkeys(("params", "steps", "samples_seen", "audio_seconds", "flops", "seed", "wall_seconds", "pairs"), 1),
    "run": "a",
    "objective": "contrastive",
    "init": "scratch",
    "model": "m",
}
# a run that writes to its --workdir, as far as a sweep reads it
CHILD = f"""
import sys
from alp_jax.core import storage
for name, text in {{"checkpoints/3/x": "1234", "summary.json": {json.dumps(SUMMARY)!r}, "DONE": "",
                    "eval/t-mean.json": {json.dumps(RESULT)!r}}}.items():
    storage.write(storage.join(sys.argv[1], name), text.encode())
"""


def command(run, folder):
    return [sys.executable, "-c", CHILD, str(folder)]


def test_a_sweep_in_a_bucket_runs_once_and_is_read_from_anywhere(s3, tmp_path, monkeypatch, capsys):  # noqa: F811
    url = storage.join(s3, "sweeps/a")
    runs = [PlannedRun(name, "trained", "ok", (), {}, 1.0) for name in ("contrastive-1", "contrastive-2")]

    def drive(disk):
        monkeypatch.setenv("ALP_CACHE", str(tmp_path / disk))
        with local_sweep(url, write=True) as folder:
            return Sweep("grid", runs, folder, command, grace_s=10).run(runs)

    counts = drive("disk")
    assert (counts["done"], counts["ledger_rows"], counts["ledger_problems"]) == (2, 2, [])
    assert {"sweep.json", "ledger.jsonl", "ledger.csv", "runs"} == set(storage.names(url))
    assert storage.names(storage.join(url, "runs")) == [run.id for run in runs]
    again = drive("other disk")
    assert (again["done"], again["skipped"], again["ledger_rows"]) == (0, 2, 2)
    state = json.loads(storage.read(storage.join(url, "sweep.json")))
    assert [run["bytes"] > 0 for run in state["runs"]] == [True, True]
    assert len(read_table(storage.join(url, "ledger.jsonl"))[0]) == 2
    assert best_run(url)[0] == storage.join(url, "runs/contrastive-1")
    assert cli.main(["sweep", "table", "--out", url]) == 0
    assert "2 of 2 runs, 2 rows in" in capsys.readouterr().out
    assert storage.size(storage.join(url, "ledger.parquet")) > 0


def test_runs_in_a_bucket_share_the_floors_of_their_sweep():
    run = PlannedRun("a", "trained", "configs/pretrain.py", ("--x",), {}, 1.0)
    assert "--workdir=s3://b/runs/a" in train_command(run, "s3://b/runs/a")
    assert "--floors=s3://b/floors.json" in train_command(run, "s3://b/runs/a")
