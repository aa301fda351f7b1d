"""What a run says of itself: rates, writers and what is refused."""

import io
import json
import sys
import types

import jax
import jax.numpy as jnp
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from alp_jax.config import RunConfig
from alp_jax.config.schema import OptimConfig, TrainConfig
from alp_jax.core.accelerators import DEVICES, of_kind
from alp_jax.core.errors import UserError
from alp_jax.data.store import records
from alp_jax.models.accounting import train_flops
from alp_jax.objectives.registry import sides_of
from alp_jax.train import run_log as run_log_module
from alp_jax.train.host import CompiledSteps
from alp_jax.train.run_log import Rates, RunLog, StepCosts, StepWork
from alp_jax.train.writers import WRITERS, Writers, parse_logs


def config(**train):
    return RunConfig(train=TrainConfig(**{"steps": 4, **train}), optim=OptimConfig(warmup_steps=1))


def write_steps(run_dir, logs, first, steps):
    writers = Writers(run_dir, config(logs=logs), first, warn=pytest.fail)
    for step in steps:
        writers.write(step, {"loss": 10.0 * first + step})
    writers.close()


def test_shares_are_those_of_the_steps_since_the_last_line(tmp_path):
    log = RunLog(tmp_path, config(), 0, Rates(config(), 1, "cpu"), io.StringIO())
    for step, (clips, cut) in enumerate([(8, 2), (8, 0), (4, 4), (8, 2)]):
        settings, padded_s, share = config(), *((8.0, 0.25) if step < 2 else (10.0, 0.5))
        useful = clips * train_flops(settings.model, sides_of(settings.objective), 5.0 / clips, 30 / clips)
        log.work.append(StepWork(0.0, clips, 5.0, padded_s, 30, 40, cut, useful / (1 - share)))
        if step % 2:
            log.write(step, {"loss": 1.0})
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["truncated_caption_share"] for line in lines] == [2 / 16, 6 / 12]
    assert [line["audio_padding_share"] for line in lines] == [1 - 10 / 16, 1 - 10 / 20]
    assert [line["text_padding_share"] for line in lines] == [1 - 60 / 80] * 2
    assert [line["padding_share"] for line in lines] == pytest.approx([0.25, 0.5])  # of the operations


@pytest.fixture
def now(monkeypatch):
    """A clock that the test moves: ``now[0]`` is in seconds."""
    seconds = [100.0]
    monkeypatch.setattr(run_log_module.time, "monotonic", lambda: seconds[0])
    return seconds


def test_rates_are_work_over_time_and_peaks(now):
    rates = Rates(config(), 4, "NVIDIA H100 80GB HBM3", before_s=1800.0)
    now[0] += 4.0
    found = rates.since_last([StepWork(0.5, 6, 30.0, 40.0, 60, 90, 0, flops=67e12, moved=3.35e12)] * 2)
    assert found["seconds_per_step"] == 2.0
    assert found["audio_seconds_per_second"] == 15.0
    assert found["clips_per_second"] == 3.0
    assert found["data_wait_share"] == 0.25
    assert found["device_hours"] == pytest.approx(4 * 1804 / 3600)
    assert found["mfu"] == pytest.approx(2 / (4 * 4))  # one device-second of float32 in each of two steps
    assert found["memory_roofline_share"] == pytest.approx(2 / 4)
    now[0] += 1.0
    unknown = StepWork(0.0, 6, 30.0, 40.0, 60, 90, 0, flops=67e12)
    assert "memory_roofline_share" not in rates.since_last([unknown])  # the bytes of a step are not known
    assert "H100 data sheet" in rates.sources()
    other = Rates(config(), 1, "NVIDIA H100 PCIe")
    now[0] += 1.0
    known = StepWork(0.0, 6, 30.0, 40.0, 60, 90, 0, flops=67e12, moved=1.0)
    assert not {"mfu", "memory_roofline_share"} & set(other.since_last([known]))
    assert "'NVIDIA H100 PCIe'" in other.sources()


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self):
        return True


def count(log, step):
    """What the loop does after a step, and then the thread that shows progress."""
    log.work.append(StepWork(0.0, 8, 5.0, 8.0, 60, 90, 0))
    log.progress.done = step + 1
    log.progress.look()


def say_steps(run_dir, now, stream, first=0):
    log = RunLog(run_dir, config(steps=400), first, Rates(config(steps=400), 1, "cpu"), stream)
    for step in range(first, 400):
        now[0] += 0.5
        count(log, step)
        if step % 2:
            log.write(step, {"loss": 1.0 + step})
    log.close()
    return stream.getvalue()


def test_a_terminal_gets_one_line_a_log_file_a_line_a_minute_and_log_txt_all(tmp_path, now, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    shown = say_steps(tmp_path, now, Screen())
    assert shown.count("\n") == 1
    looks = [look.rstrip() for look in shown.split("\r")]
    assert max(map(len, looks)) <= 79
    assert "train: 302/400 steps |#######5  | ETA 49 s  loss 300.0000  10 audio-s/s" in looks
    assert looks[-1] == "train: 400/400 steps  done in 3 min 20 s  loss 400.0000  10 audio-s/s"
    plain = say_steps(tmp_path, now, io.StringIO()).splitlines()
    assert [line.split()[1] for line in plain] == ["2/400", "122/400", "242/400", "362/400", "400/400"]
    values = "loss 120.0000  10 audio-s/s  data wait 0%  0% captions cut"
    assert plain[1] == f"train: 122/400 steps  ETA 2 min 19 s  1 min 1 s so far  {values}"
    kept = (tmp_path / "log.txt").read_text().splitlines()
    assert len(kept) == 2 * 201
    values = values.replace("120", "400")
    assert kept[-1] == f"train: 400/400 steps  ETA 0 s  3 min 20 s so far  {values}"


def test_the_eta_is_among_the_numbers_once_it_is_known(tmp_path, now):
    say_steps(tmp_path, now, io.StringIO(), first=300)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["step"] == 301
    assert lines[0]["eta_seconds"] == 49.0  # the first step alone tells nothing, nor do 300 of an earlier start
    assert "eta_seconds" not in first_line_of_a_run_that_logs_every_step(tmp_path / "other", now)


def test_a_run_that_is_stopped_is_not_said_to_be_done(tmp_path, now):
    stream = io.StringIO()
    log = RunLog(tmp_path, config(), 0, Rates(config(), 1, "cpu"), stream)
    now[0] += 1.0
    count(log, 0)
    log.close()
    assert stream.getvalue().splitlines()[-1] == "train: 1/4 steps  stopped after 1.0 s"


def first_line_of_a_run_that_logs_every_step(run_dir, now):
    run_dir.mkdir()
    log = RunLog(run_dir, config(), 0, Rates(config(), 1, "cpu"), io.StringIO())
    now[0] += 351.0
    count(log, 0)
    log.write(0, {"loss": 1.0})
    log.close()
    return json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[0])


def test_bytes_are_those_of_the_compiled_step_or_of_a_plan(tmp_path):
    state, text = jnp.zeros(()), {"text": jnp.ones((4, 9))}
    batches = [{"audio": jnp.ones((4, length))} | text for length in (16_000, 32_000)]
    shapes = [jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch) for batch in batches]
    step = CompiledSteps(jax.jit(lambda state, batch: state + batch["audio"].sum()), state, shapes)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **extra: compiled.append(event) if "backend_compile" in event else None
    )
    costs = StepCosts(config(), DEVICES["h100"], 1)
    assert 4 * 16_000 * 4 <= costs.of((4, 16_000, 9), step)[1] < 2 * 4 * 16_000 * 4
    step.program((4, 32_000, 9))
    once = len(compiled)
    assert once == 2
    step.program((4, 16_000, 9))(state, batches[0])
    step.close()
    assert len(compiled) == once, "the step was compiled a second time"
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"devices": 1, "buckets": [{"clips": 4, "seconds": 1.0, "tokens": 9, "bytes": 7.0}]}))
    costs = StepCosts(config(plan=str(plan)), DEVICES["h100"], 1)
    assert costs.of((4, 16_000, 9), step)[1] == 7.0
    assert costs.of((4, 32_000, 9), step)[1] >= 4 * 32_000 * 4  # not in the plan
    assert StepCosts(config(plan=str(plan)), of_kind("cpu"), 1).of((4, 16_000, 9), step)[1] is None
    with pytest.raises(UserError, match=r"config\.train\.plan=.* is for 1 devices, the run has 8"):
        StepCosts(config(plan=str(plan)), DEVICES["h100"], 8)
    plan.write_text("[]")
    with pytest.raises(UserError, match=r"config\.train\.plan=.* is not a plan"):
        StepCosts(config(plan=str(plan)), DEVICES["h100"], 1)


def test_json_lines_have_every_step_once_after_a_resume(tmp_path):
    write_steps(tmp_path, "jsonl", 0, range(4))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"loss": 4')  # torn
    write_steps(tmp_path, "jsonl", 2, (2, 3))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(0, 0.0), (1, 1.0), (2, 22.0), (3, 23.0)]


def event_class():
    """TensorBoard's Event message as its event.proto and summary.proto say, scalars and session starts only."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="event_for_test.proto", package="t", syntax="proto3")
    for name, fields in {
        "Value": [("tag", 1, field.TYPE_STRING, ""), ("simple_value", 2, field.TYPE_FLOAT, "")],
        "Summary": [("value", 1, field.TYPE_MESSAGE, ".t.Value")],
        "SessionLog": [("status", 1, field.TYPE_INT32, "")],
        "Event": [
            ("wall_time", 1, field.TYPE_DOUBLE, ""),
            ("step", 2, field.TYPE_INT64, ""),
            ("summary", 5, field.TYPE_MESSAGE, ".t.Summary"),
            ("session_log", 7, field.TYPE_MESSAGE, ".t.SessionLog"),
        ],
    }.items():
        message = file.message_type.add(name=name)
        for key, number, kind, type_name in fields:
            label = field.LABEL_REPEATED if key == "value" else field.LABEL_OPTIONAL
            message.field.add(name=key, number=number, type=kind, label=label, type_name=type_name or None)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Event"))


def test_event_files_hold_the_values_and_a_resume_voids_what_comes_again(tmp_path):
    event = event_class()
    write_steps(tmp_path, "tensorboard", 0, range(4))
    (earlier,) = (tmp_path / "tensorboard").iterdir()
    write_steps(tmp_path, "tensorboard", 2, (2, 3))
    (later,) = set((tmp_path / "tensorboard").iterdir()) - {earlier}
    found = {}
    for path in (earlier, later):
        with path.open("rb") as file:
            events = [event.FromString(data) for _, data in records.scan(file, path.name, path.stat().st_size)]
        found[path] = [(e.step, v.tag, v.simple_value) for e in events for v in e.summary.value]
        starts = [e.step for e in events if e.session_log.status == 1]
        assert starts == ([] if path == earlier else [2])
    assert found[earlier] == [(step, "loss", float(step)) for step in range(4)]
    assert found[later] == [(2, "loss", 22.0), (3, "loss", 23.0)]


@pytest.fixture
def wandb(monkeypatch):
    """A module in place of wandb that notes what it is asked for."""
    module = types.ModuleType("wandb")
    module.calls, module.refuse = [], ""
    module.Error = type("Error", (Exception,), {})

    def init(**settings):
        if module.refuse:
            raise module.Error(module.refuse)
        module.calls.append(("init", settings))
        return types.SimpleNamespace(
            log=lambda values, step: module.calls.append(("log", step, values)),
            finish=lambda: module.calls.append(("finish",)),
        )

    module.init = init
    module.__spec__ = types.SimpleNamespace(name="wandb")
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_wandb_finds_its_run_again(tmp_path, wandb):
    write_steps(tmp_path, "wandb", 0, (0, 1))
    write_steps(tmp_path, "wandb", 1, (1,))
    begun = [call[1] for call in wandb.calls if call[0] == "init"]
    assert begun[0]["id"] == begun[1]["id"] == (tmp_path / "wandb_id.txt").read_text().strip()
    assert begun[0]["resume"] == "allow"
    assert begun[0]["config"]["train"]["steps"] == 4
    assert [call for call in wandb.calls if call[0] != "init"] == [
        ("log", 0, {"loss": 0.0}),
        ("log", 1, {"loss": 1.0}),
        ("finish",),
        ("log", 1, {"loss": 11.0}),
        ("finish",),
    ]
    wandb.refuse = "api_key not configured (no-tty).\ncall wandb.login"
    with pytest.raises(UserError, match=r"config\.train\.logs.*no-tty.*WANDB_MODE=offline") as refused:
        write_steps(tmp_path / "other", "wandb", 0, ())
    assert "\n" not in str(refused.value)


def broken(wandb, monkeypatch, name):
    """The sink ``name`` fails from step 2 on, and again when it is closed."""

    def fail(*args, **options):
        raise OSError(28, "No space left\non device")

    real = WRITERS[name]

    class Broken(real):
        def write(self, step, values):
            return super().write(step, values) if step < 2 else fail()

        def close(self):
            super().close()
            fail()

    monkeypatch.setitem(WRITERS, name, Broken)


@pytest.mark.parametrize("name", ["wandb", "tensorboard"])
def test_a_sink_that_fails_is_left_out_with_one_warning(tmp_path, wandb, monkeypatch, name):
    broken(wandb, monkeypatch, name)
    stream, settings = io.StringIO(), config(steps=5, logs=f"{name},jsonl")
    log = RunLog(tmp_path, settings, 0, Rates(settings, 1, "cpu"), stream)
    for step in range(5):
        count(log, 0)
        log.write(step, {"loss": 1.0})
    log.close()
    warning = (
        f"{name} failed at step 2 and is left out from here on: OSError: [Errno 28] No space left on device; jsonl"
    )
    for told in (stream.getvalue(), (tmp_path / "log.txt").read_text()):
        assert told.count("left out") == told.count(warning) == 1
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(5))


def test_a_sink_that_fails_as_it_is_closed_harms_no_run(tmp_path, wandb, monkeypatch):
    broken(wandb, monkeypatch, "wandb")
    warnings = []
    writers = Writers(tmp_path, config(logs="wandb,jsonl"), 0, warnings.append)
    writers.write(0, {"loss": 1.0})
    writers.close()
    (warning,) = warnings
    assert warning.startswith("wandb failed while it was closed and is left out")
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 0, "loss": 1.0}


def test_the_record_of_a_run_is_not_left_out(tmp_path, wandb, monkeypatch):
    broken(wandb, monkeypatch, "jsonl")
    writers = Writers(tmp_path, config(logs="jsonl,tensorboard"), 0, pytest.fail)
    with pytest.raises(OSError, match="No space left"):
        writers.write(2, {"loss": 1.0})


def test_a_service_that_is_away_stops_a_start_but_no_resume(tmp_path, wandb):
    wandb.refuse = "network\nunreachable"
    with pytest.raises(
        UserError, match=r"^config\.train\.logs: wandb cannot start: Error: network unreachable; run 'wandb"
    ):
        Writers(tmp_path, config(logs="wandb,jsonl"), 0, pytest.fail)
    warnings = []
    Writers(tmp_path, config(logs="wandb,jsonl"), 3, warnings.append).write(3, {"loss": 1.0})
    (warning,) = warnings
    assert warning.startswith("wandb cannot start and is left out: Error: network unreachable")
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["step"] == 3


def test_what_a_run_warns_of_stands_once_in_the_log(tmp_path):
    settings = RunConfig(train=TrainConfig(steps=4), optim=OptimConfig(warmup_steps=9))
    stream = io.StringIO()
    log = RunLog(tmp_path, settings, 0, Rates(settings, 1, "cpu"), stream)
    shares = (0.5, 0.75, 1.0, 0.0)
    for step, share in enumerate(shares):
        log.progress.done = step + 1
        log.work.append(StepWork(0.0, 8, 5.0, 8.0, 60, 90, 2))
        metrics = {"loss": 1.0, "learning_rate": 3e-4, "contrastive/negatives": 6.5}
        log.write(step, {**metrics, "contrastive/no_negatives_share": share})
    log.close()
    for told in (stream.getvalue(), (tmp_path / "log.txt").read_text()):
        assert told.count("have no negative in their batch") == 1
        assert "at step 1 75% of the clips have no negative" in told
        assert told.count("warmup_steps is 9, longer than the run of 4 steps: the warm-up takes 3") == 1
    assert (tmp_path / "log.txt").read_text().count("  loss 1.0000  lr 3.00e-04  6.5 negatives  ") == 4
    assert (tmp_path / "log.txt").read_text().count("  25% captions cut") == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jsonl,tensorbord", r"'tensorbord' is not one of jsonl, tensorboard, wandb"),
        ("jsonl,jsonl", "'jsonl' twice"),
        ("jsonl,wandb", r"the package wandb is not installed: pip install 'alp_jax\[wandb\]'"),
    ],
)
def test_a_sink_that_cannot_be_had_is_refused(text, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=message):
        parse_logs(text)
