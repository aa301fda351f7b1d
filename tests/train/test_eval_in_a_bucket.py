"""Commands about a run on a server that speaks S3: what they leave is there, and what is missing is one line."""

import contextlib
import json
import time

import jax
import pytest

from alp_jax.cli import main as cli
from alp_jax.config import to_dict
from alp_jax.core import mirror, storage
from alp_jax.core.files import write_json
from alp_jax.core.run_files import Result
from alp_jax.parallel import runtime
from alp_jax.train import evaluate_sets
from alp_jax.train.build import make_model
from alp_jax.train.checkpoint import Checkpoints
from tests.s3_server import s3  # noqa: F401


@pytest.fixture(scope="module")
def saved(s3, tiny, tmp_path_factory):  # noqa: F811
    """The URL of a run with a checkpoint of untrained parameters."""
    run, config = tmp_path_factory.mktemp("saved") / "run", tiny()
    shapes = jax.eval_shape(make_model(config)[0], jax.random.key(0))
    checkpoints = Checkpoints(run, keep=1)
    checkpoints.save(3, {"params": jax.tree.map(lambda a: jax.numpy.zeros(a.shape, a.dtype), shapes)}, {}, {})
    checkpoints.close()
    write_json(run / "config.json", to_dict(config))
    for name in storage.tree(run):
        storage.write(storage.join(s3, f"runs/eval/{name}"), (run / name).read_bytes())
    return storage.join(s3, "runs/eval")


def lines(call, status, capfd):
    assert cli.main(call) == status
    return [line for line in capfd.readouterr().err.splitlines() if line.startswith("alp:")]


def test_results_go_to_the_bucket_and_no_folder_is_named_after_it(saved, s3, tones, monkeypatch, tmp_path, capfd):  # noqa: F811
    def run_suite(model, suite, out, *, floors_path, keep_features=False):
        values = {"accuracy": {"value": 0.5, "interval": None, "chance": 0.25, "floor": None}}
        Result("pitch", "mean", "accuracy", values, {"model": model.name}).write(out)
        storage.write(floors_path, b"{}")
        until = time.monotonic() + 20
        while "pitch-mean.json" not in storage.names(there[0]):  # a process that is killed now has lost nothing
            assert time.monotonic() < until, "nothing was uploaded before the end"
            time.sleep(0.01)
        return []

    there = [""]
    monkeypatch.setattr(mirror, "UPLOAD_S", 0.01)
    monkeypatch.setattr(evaluate_sets, "run_suite", run_suite)
    monkeypatch.chdir(tmp_path)
    call = ["eval", "--suite", "pitch", "--no_baselines", "--json", f"--data={tones}", f"--run={saved}"]
    for more, out in ([], f"{saved}/eval"), (["--out", f"{s3}/apart/new"], f"{s3}/apart/new"):
        there[0] = out
        assert lines([*call, *more], 0, capfd) == []
        assert storage.names(out) == ["pitch-mean.json"]
        assert json.loads(storage.read(f"{out}/pitch-mean.json"))["model"] == "eval@3"
        assert storage.size(out.rpartition("/")[0] + "/floors.json") == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("eval --run {s3}/none", "{s3}/none does not exist or is not a run folder"),
        ("embed --model {s3}/none --audio . --out a.npz", "{s3}/none does not exist or is not a run folder"),
        ("export torch --run {s3}/none --out a", "{s3}/none does not exist or is not a run folder"),
        ("ckpt list {s3}/none", "{s3}/none has no checkpoints: give the folder of a run that saved one"),
        ("sweep status --out {s3}/none", "sweep state {s3}/none/sweep.json does not exist"),
        ("sweep table --out {s3}/none", "sweep state {s3}/none/sweep.json does not exist"),
        ("eval --run s3:/bucket/run", "s3:/bucket/run is not a URL: write s3://bucket/run"),
        ("ckpt list s4://b/run", "run folder s4://b/run: a run folder cannot be at s4://: give a path, or a URL of"),
        ("embed --model {s3}/none --audio . --out {s3}/a.npz", "{s3}/a.npz is remote; a local path is needed here"),
        ("export torch --run {run} --out {s3}/a", "{s3}/a is remote; a local path is needed here"),
    ],
)
def test_what_is_missing_is_one_line(saved, s3, call, said, monkeypatch, tmp_path, capfd):  # noqa: F811
    monkeypatch.setattr(runtime, "setup_runtime", lambda: None)
    monkeypatch.chdir(tmp_path)
    names = {"s3": s3, "run": saved}
    (line,) = lines(call.format(**names).split(), 2, capfd)
    assert line.startswith(f"alp: {said.format(**names)}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", ["eval --run {run}", "ckpt list {run}", "export torch --run {run} --out a"])
def test_a_store_that_cannot_be_reached_is_not_a_missing_run(saved, call, monkeypatch, capfd):
    monkeypatch.setattr(runtime, "setup_runtime", lambda: None)

    @contextlib.contextmanager
    def away(url):
        raise OSError(f"{url}: no route to host")
        yield

    monkeypatch.setattr(storage, "reached", away)
    (line,) = lines(call.format(run=saved).split(), 2, capfd)
    assert line == f"alp: run folder {saved} cannot be reached: {saved}: no route to host"
