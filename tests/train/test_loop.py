"""The loop as a whole: it learns, it stops and goes on exactly, it refuses what does not fit."""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from alp_jax.config import to_dict
from alp_jax.config.schema import MeshConfig, TrainConfig
from alp_jax.config.schema.model import DECODER
from alp_jax.core.errors import NumericsError, Preempted, UserError
from alp_jax.core.files import write_json
from alp_jax.core.run_files import RunSummary
from alp_jax.data.pipeline import train_batches
from alp_jax.models.accounting import train_flops
from alp_jax.optim.optimizer import learning_rate
from alp_jax.scaling.sweep.ledger import read_run
from alp_jax.train import loop as loop_module
from alp_jax.train import run_dir, setup
from alp_jax.train.build import open_data
from alp_jax.train.checkpoint import load_params, read_checkpoint
from alp_jax.train.host import CompiledSteps
from alp_jax.train.loop import train
from alp_jax.train.run_dir import RunDir


def losses(run_dir):
    return [json.loads(line)["loss"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def leaves(params):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def assert_bit_equal(first, second):
    """Last parameters and, where there is one, their average."""
    first, second = (leaves(read_checkpoint(folder / "checkpoints" / "12")) for folder in (first, second))
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].tobytes() == second[name].tobytes(), name


# Settings of training that the host alone reads: runs that differ in them take the same programs.
ON_THE_HOST = ("log_every", "save_every", "keep", "keep_best", "gc_every", "max_bad_steps", "logs")


@pytest.fixture(scope="module", autouse=True)
def shared_programs():
    """Runs of one configuration on as many devices take one program, traced and compiled once."""
    prepare, compile_step, setups, programs = loop_module.prepare, CompiledSteps._compile, {}, {}

    def prepare_once(config):
        host = {name: getattr(TrainConfig(), name) for name in ON_THE_HOST}
        new, device_side = prepare(config), dataclasses.replace(config, train=dataclasses.replace(config.train, **host))
        first = setups.setdefault((json.dumps(to_dict(device_side)), new.mesh), new)
        return dataclasses.replace(new, make_state=first.make_state, step=first.step)

    def compile_once(self, size):
        if (self._step, size) not in programs:
            programs[self._step, size] = compile_step(self, size)
        return programs[self._step, size]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop_module, "prepare", prepare_once)
        patch.setattr(CompiledSteps, "_compile", compile_once)
        yield


@contextlib.contextmanager
def devices(count):
    """Runs within are laid over so many devices: over 8 as ``tiny`` says, which costs, or over 1."""
    with pytest.MonkeyPatch.context() as patch:
        if count == 1:
            any_mesh = setup.make_mesh
            patch.setattr(setup, "make_mesh", lambda mesh: any_mesh(MeshConfig(), jax.devices()[:1]))
        yield


@pytest.fixture
def on_one_device():
    with devices(1):
        yield


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """``whole(objective, count)``: (folder, summary) of 12 steps on ``count`` devices undisturbed; it is only read."""

    @functools.cache
    def run(objective, count=8):
        folder = tmp_path_factory.mktemp("whole") / objective
        with devices(count):
            return folder, train(tiny(objective), folder)

    return run


# The regularised objective's program for one device would be the second slowest of this file to compile.
@pytest.mark.parametrize("objective", ["contrastive", pytest.param("captioning", marks=pytest.mark.nightly)])
def test_losses_agree_on_1_and_8_devices(whole, objective):
    (one, _), (eight, _) = whole(objective, 1), whole(objective)
    np.testing.assert_allclose(losses(eight), losses(one), rtol=1e-5)
    assert len(losses(one)) == 12


def test_training_lowers_the_loss_and_leaves_a_whole_run_folder(tiny, whole):
    config = tiny("captioning")
    run, summary = whole("captioning")
    history = losses(run)
    assert np.mean(history[-3:]) < np.mean(history[:3]) - 0.1
    names = {path.name for path in run.iterdir()}
    assert {"config.json", "env.json", "metrics.jsonl", "log.txt", "summary.json", "checkpoints"} <= names
    assert summary["samples_seen"] == 12 * 16
    assert 0 < summary["audio_seconds"] < 12 * 16 * 1.2
    dataset, tokenizer = open_data(config)
    batches = train_batches(dataset, config.data, tokenizer, seed=config.seed)
    cut = [float(next(batches)["text_cut"].mean()) for _ in range(12)]
    batches.close()
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["truncated_caption_share"] for line in lines] == cut
    assert min(cut) > 0
    assert summary["flops"] == pytest.approx(12 * 16 * train_flops(config.model, (DECODER,), 1.2, 12))
    # what is evaluated and exported is the average
    state, given = read_checkpoint(run / "checkpoints" / "12"), leaves(load_params(run)[0])
    assert all(given[name].tobytes() == value.tobytes() for name, value in leaves(state["average"]).items())
    assert any(given[name].tobytes() != value.tobytes() for name, value in leaves(state["params"]).items())


def test_a_stopped_run_goes_on_bit_for_bit(tiny, whole, tmp_path, monkeypatch):
    """SIGTERM between two saves: the state is saved at once and the resumed run ends in the same bits.

    So it does where settings differ that a run is free to change.
    """
    config, (undisturbed, _) = tiny("captioning"), whole("captioning")
    real, calls = loop_module.put_batch, []

    def stop_at_the_fifth(batch, mesh):
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(batch, mesh)

    monkeypatch.setattr(loop_module, "put_batch", stop_at_the_fifth)
    with pytest.raises(Preempted) as stopped:
        train(config, tmp_path / "stopped")
    assert stopped.value.exit_code == 42
    assert load_params(tmp_path / "stopped")[1] == 5
    cadence = {"log_every": 4, "save_every": 5, "keep": 9, "keep_best": 2, "gc_every": 0, "max_bad_steps": 3}
    changed = dataclasses.replace(config, train=dataclasses.replace(config.train, logs="tensorboard,jsonl", **cadence))
    train(changed, tmp_path / "stopped")
    assert_bit_equal(undisturbed, tmp_path / "stopped")
    lines = [json.loads(line) for line in (tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4, 8, 11]
    expected = losses(undisturbed)
    assert [line["loss"] for line in lines] == [expected[line["step"]] for line in lines]
    (change,) = [json.loads(line) for line in (tmp_path / "stopped" / "config_changes.jsonl").read_text().splitlines()]
    assert change["step"] == 5
    assert change["changed"].keys() == {f"config.train.{name}" for name in (*cadence, "logs")}
    assert change["changed"]["config.train.save_every"] == [3, 5]
    assert (tmp_path / "stopped" / "checkpoints" / "10").exists()


def test_a_run_is_made_longer_by_a_flag_that_is_written_down(tiny, whole, tmp_path, capsys, on_one_device):
    """It ends in the bits of a run that was as long from the start."""
    (as_long, _), run = whole("contrastive", 1), tmp_path / "run"
    none = tiny(train={"steps": 0})
    train(none, run)
    (run / "DONE").touch()
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and not p.name.startswith(".")}
    with pytest.raises(UserError, match=r"holds a run of 0 steps, not 12: --extend makes it longer"):
        train(tiny(), run)
    with pytest.raises(UserError, match=r"config\.seed = 0, not 3"):
        train(dataclasses.replace(tiny(), seed=3), run, extend=True)
    assert before == {p: p.read_bytes() for p in before}
    train(tiny(), run, extend=True)
    assert_bit_equal(as_long, run)
    assert losses(run) == losses(as_long)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rate = learning_rate(tiny().optim, 12)
    np.testing.assert_allclose([line["learning_rate"] for line in lines], [rate(i) for i in range(12)], rtol=1e-5)
    assert not (run / "DONE").exists()
    assert json.loads((run / "config.json").read_text()) == to_dict(tiny())
    (change,) = [json.loads(line) for line in (run / "config_changes.jsonl").read_text().splitlines()]
    assert (change["step"], change["changed"]) == (0, {"config.train.steps": [0, 12]})
    assert f"{run}: extended from 0 to 12 steps; {change['note']}" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"holds a run of 12 steps, not 5: a run cannot be made shorter"):
        train(tiny(train={"steps": 5}), run, extend=True)


def test_what_a_longer_run_does_to_a_cosine_is_said(tiny, tmp_path):
    run = tmp_path / "run"
    config = tiny(train={"steps": 12})
    with RunDir(run, config):
        pass
    for step in (3, 12):  # a run that was saved at these steps
        (run / "checkpoints" / str(step)).mkdir(parents=True)
        (run / "checkpoints" / str(step) / "manifest.json").write_text("{}")
    longer = dataclasses.replace(config, train=dataclasses.replace(config.train, steps=22))
    with RunDir(run, longer, extend=True) as folder:
        assert json.loads((run / "config.json").read_text())["train"]["steps"] == 12, "written before it was accepted"
        folder.write_changes()
    (change,) = [json.loads(line) for line in (run / "config_changes.jsonl").read_text().splitlines()]
    half = "at step 12 the learning rate goes from 0 to 0.0015, that of a run of 22 steps"
    assert change["note"] == f"config.optim.schedule=cosine depends on the length: {half}"


@pytest.mark.parametrize("killed", [False, True])
def test_what_a_shorter_run_measured_is_not_taken_for_the_longer_one(tiny, tmp_path, monkeypatch, killed):
    run, config = tmp_path / "run", tiny(train={"steps": 4})
    with RunDir(run, config):
        (run / "checkpoints" / "4").mkdir(parents=True)
        (run / "checkpoints" / "4" / "manifest.json").write_text("{}")
        (run / "eval" / "untrained").mkdir(parents=True)
    for name in ("DONE", "summary.json", "eval/pitch-mean.json", "eval/pitch-attention.failed"):
        (run / name).write_text("{}")
    (run / "eval" / "untrained" / "pitch-mean.json").write_text("{}")

    def stop(path, value):
        if path.name == "config.json":  # and not the lease
            raise KeyboardInterrupt
        write_json(path, value)

    if killed:
        monkeypatch.setattr(run_dir, "write_json", stop)
    with (
        RunDir(run, tiny(), extend=True) as folder,
        pytest.raises(KeyboardInterrupt) if killed else contextlib.nullcontext(),
    ):
        folder.write_changes()
    assert json.loads((run / "config.json").read_text())["train"]["steps"] == (4 if killed else 12)
    left = [str(p.relative_to(run)) for p in sorted(run.rglob("*")) if p.is_file() and p.name[0] != "."]
    aside = "eval/before_step_4"
    assert left == [
        *("checkpoints/4/manifest.json", "config.json", "config_changes.jsonl"),
        *(f"{aside}/{name}" for name in ("pitch-attention.failed", "pitch-mean.json", "summary.json")),
        "eval/untrained/pitch-mean.json",
    ]
    write_json(run / "summary.json", RunSummary("run", *("as it was",) * 3, *(1,) * 4, 1.0, 1.0, 1, 1.0).to_json())
    assert read_run(run) == ([], [f"{run} has no usable result in eval/"])


def test_what_a_kill_leaves_goes_on_to_the_same_bits(tiny, whole, tmp_path):
    """Killed after the commit of step 6, while it wrote the next one and a line of its log."""
    undisturbed, _ = whole("contrastive")
    killed = shutil.copytree(undisturbed, tmp_path / "killed")
    (killed / "summary.json").unlink()
    for step in ("9", "12"):
        (killed / "checkpoints" / step / "manifest.json").unlink()
    lines = (undisturbed / "metrics.jsonl").read_text().splitlines(keepends=True)
    (killed / "metrics.jsonl").write_text("".join(lines[:8]) + lines[8][:20])
    train(tiny(), killed)
    assert_bit_equal(undisturbed, killed)
    assert losses(killed) == losses(undisturbed)


@pytest.mark.nightly
def test_kill_9_and_resume_end_in_the_same_bits(tiny, whole, tmp_path, config_file):
    """The process dies without warning after a commit; the same command goes on from there."""
    config = tiny()
    command = [sys.executable, "-m", "alp_jax", "train", "--workdir", str(tmp_path / "killed")]
    command += [f"--config={config_file(config)}"]
    environment = {**os.environ, "ALP_CACHE": str(pathlib.Path(jax.config.jax_compilation_cache_dir).parent)}
    child = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "checkpoints" / "3" / "manifest.json").exists():
        assert child.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.kill()
    child.wait()
    assert not (tmp_path / "killed" / "summary.json").exists()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert_bit_equal(whole("contrastive")[0], tmp_path / "killed")
    steps = [json.loads(line)["step"] for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(12))


def test_a_non_finite_step_is_skipped_and_its_clips_are_named(tiny, tmp_path, monkeypatch, on_one_device):
    real = loop_module.put_batch

    def poison(batch, mesh):
        batch = real(batch, mesh)
        poison.calls += 1
        if poison.calls == 2:  # a clip longer than its array makes no frames: the mean over none is not a number
            batch["mask"] = batch["mask"] & False
        return batch

    poison.calls = 0
    monkeypatch.setattr(loop_module, "put_batch", poison)
    train(tiny(), tmp_path / "run")
    (bad,) = [json.loads(line) for line in (tmp_path / "run" / "bad_steps.jsonl").read_text().splitlines()]
    assert bad["step"] == 1
    assert len(bad["clips"]) == 16
    assert all(clip.startswith("tones:") for clip in bad["clips"])
    params, step = load_params(tmp_path / "run")
    assert step == 12
    assert all(np.isfinite(leaf).all() for leaf in leaves(params).values())


def test_too_many_bad_steps_stop_the_run(tiny, tmp_path, monkeypatch, on_one_device):
    real = loop_module.put_batch
    monkeypatch.setattr(
        loop_module, "put_batch", lambda b, m: {k: v & False if k == "mask" else v for k, v in real(b, m).items()}
    )
    with pytest.raises(NumericsError, match=r"2 non-finite steps.*config\.optim\.lr"):
        train(tiny(train={"max_bad_steps": 2}), tmp_path / "run")


def test_a_run_folder_of_another_configuration_is_refused_and_kept(tiny, tmp_path, on_one_device):
    train(tiny(train={"steps": 0}), tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()}
    with pytest.raises(UserError, match=r"config\.optim\.lr = 0\.003, not 0\.5"):
        train(tiny(train={"steps": 0}, optim={"lr": 0.5}), tmp_path / "run")
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()}


def test_a_run_goes_on_with_other_data_only_when_told_to(tiny, tmp_path, on_one_device):
    config, run = tiny(train={"steps": 0}), tmp_path / "run"
    train(config, run)
    reader = dataclasses.replace(config, data=dataclasses.replace(config.data, workers=3))
    train(reader, run)  # who reads does not matter
    assert json.loads((run / "config.json").read_text())["data"]["workers"] == 3
    fewer = dataclasses.replace(config, data=dataclasses.replace(config.data, pairs=20))
    with pytest.raises(UserError, match=r"config\.data\.pairs = 0, not 20"):
        train(fewer, run)
    first = setup.plan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "plan", lambda *a, **k: dataclasses.replace(first(*a, **k), fingerprint="other"))
        with pytest.raises(UserError, match=r"gives other: .*--config\.train\.accept_data_change=true"):
            train(config, run)
    accepting = dataclasses.replace(fewer, train=dataclasses.replace(fewer.train, accept_data_change=True))
    train(accepting, run)
    (change,) = [json.loads(line) for line in (run / "data_changes.jsonl").read_text().splitlines()]
    assert change["from"] != change["to"]
    with pytest.raises(UserError, match=r"config\.seed"):
        train(dataclasses.replace(accepting, seed=9), run)


def test_a_start_takes_the_encoder_of_another_run(tiny, tmp_path):
    other = tiny("captioning", train={"steps": 0})
    train(other, tmp_path / "first")
    start = dataclasses.replace(other, init=str(tmp_path / "first"), seed=1)
    train(start, tmp_path / "second")
    first, second = load_params(tmp_path / "first")[0], load_params(tmp_path / "second")[0]
    assert leaves(first["encoder"]).keys() == leaves(second["encoder"]).keys()
    for name, value in leaves(first["encoder"]).items():
        np.testing.assert_array_equal(value, leaves(second["encoder"])[name])
    wider = dataclasses.replace(other.model, encoder=dataclasses.replace(other.model.encoder, encoder_dim=(32,)))
    with pytest.raises(UserError, match=r"config\.init.*does not fit config\.model"):
        train(dataclasses.replace(start, model=wider), tmp_path / "third")
