"""Launches: what is rendered parses and says what was asked, what is submitted is recorded, stops are gone on from."""

import json
import os
import pathlib
import random
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest
import yaml

from alp_jax.cli.main import main
from alp_jax.core.errors import Preempted, UserError
from alp_jax.launchers import local, slurm, tpu
from alp_jax.launchers.names import PATTERNS, check, check_command

TRAIN = ["train", "--workdir", "runs/a b", "--config=configs/pretrain.py:pairs=10m", "--config.model.name=it's $(x)"]
VM = ("--project", "my-proj", "--zone", "us-central2-b", "--accelerator", "v5litepod-64", "--runtime", "v2-alpha")
VM += ("--repository", "https://host/x/alp_jax", "--spot")


def launch(capsys, *args, command=TRAIN):
    code = main(["launch", *args, "--", *command])
    out, err = capsys.readouterr()
    return code, out, err


def words_of(script: str, environ=()) -> list[str]:
    """What the batch script hands to srun, by bash itself."""
    shown = script.replace("srun --kill-on-bad-exit=0 --wait=120", "printf '%s\\0'")
    done = subprocess.run(
        ["/bin/bash", "-c", shown], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", **dict(environ)}
    )
    return done.stdout.split("\0")[:-1]


def test_slurm_is_given_a_script_that_bash_reads_as_meant(programs, capsys, tmp_path):
    programs.add("sbatch", [((), [(0, "Submitted batch job 7")])])
    command = [*TRAIN[:2], str(tmp_path / "a b"), *TRAIN[3:]]
    code, out, _ = launch(capsys, "slurm", "--name", "c10m", "--nodes", "2", "--partition", "gpu", command=command)
    assert code == 0
    assert "Submitted batch job 7" in out
    folder = tmp_path / "a b" / "launch" / "1"
    record = json.loads((folder / "launch.json").read_text())
    assert (record["kind"], record["commands"], record["settings"]["nodes"]) == ("slurm", [command], 2)
    assert programs.calls == [["sbatch", str(folder / "job.sbatch")]]
    assert record["submitted"][0]["output"] == "Submitted batch job 7"
    script = (folder / "job.sbatch").read_text()
    assert subprocess.run(["/bin/bash", "-n", str(folder / "job.sbatch")]).returncode == 0
    assert words_of(script) == [".venv/bin/alp", *command, "--cluster", "slurm"]
    for line in ("--job-name=c10m", "--nodes=2", "--gpus-per-node=8", "--partition=gpu", "--requeue"):
        assert f"#SBATCH {line}\n" in script
    launch(capsys, "slurm", command=command)
    assert (tmp_path / "a b" / "launch" / "2" / "launch.json").exists()  # the first stays


@pytest.mark.parametrize(("code", "requeued"), [(42, True), (0, False), (2, False), (1, False)])
def test_slurm_queues_again_what_was_stopped_and_nothing_else(programs, tmp_path, code, requeued):
    programs.add("srun", [((), [(code, "")])])
    programs.add("scontrol", [((), [(0, "")])])
    (tmp_path / "job").write_text(slurm.render(slurm.Job("a"), [TRAIN], "out.txt"))
    done = subprocess.run(["/bin/bash", str(tmp_path / "job")], env={**os.environ, "SLURM_JOB_ID": "12"})
    assert done.returncode == code
    assert (["scontrol", "requeue", "12"] in programs.calls) == requeued


def test_slurm_runs_several_commands_as_an_array(programs, tmp_path):
    commands = [["train", "--workdir", f"runs/{i}", "--config=c.py"] for i in range(3)]
    script = slurm.render(slurm.Job("a", at_once=2), commands, "out.txt")
    assert "#SBATCH --array=0-2%2\n" in script
    for i in range(3):
        assert words_of(script, {"SLURM_ARRAY_TASK_ID": str(i)})[1:4] == commands[i][:3]
    programs.add("srun", [((), [(42, "")])])
    programs.add("scontrol", [((), [(0, "")])])
    array = {"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "2"}
    subprocess.run(["/bin/bash", "-c", script], env={**os.environ, **array})
    assert programs.calls[-1] == ["scontrol", "requeue", "9_2"]


@pytest.mark.parametrize(
    ("topology", "hosts", "limits", "select"),
    [
        ("v5e:8x8", 16, {"google.com/tpu": 4}, "cloud.google.com/gke-tpu-topology"),
        ("v5p:4x4x4", 16, {"google.com/tpu": 4}, "cloud.google.com/gke-tpu-topology"),
        ("h100:64", 8, {"nvidia.com/gpu": 8}, "cloud.google.com/gke-accelerator"),
    ],
)
def test_gke_is_given_a_job_set(capsys, topology, hosts, limits, select):
    code, out, _ = launch(capsys, "gke", "--dry_run", "--name", "c10m", "--topology", topology, "--image", "r/alp:1")
    assert code == 0
    found = yaml.safe_load(out)
    job = found["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    assert (job["parallelism"], job["completions"], job["backoffLimit"]) == (hosts, hosts, 0)
    assert pod["containers"][0]["command"] == ["alp", *TRAIN, "--cluster", "gke"]
    assert pod["containers"][0]["resources"]["limits"] == limits
    assert select in pod["nodeSelector"]
    environ = {entry["name"]: entry["value"] for entry in pod["containers"][0].get("env", [])}
    assert (environ.get("ALP_NUM_PROCESSES") == str(hosts)) == topology.startswith("h100")
    # bad input is not tried again, anything else is
    assert job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2]
    assert found["spec"]["failurePolicy"]["rules"][0]["action"] == "FailJobSet"
    assert found["spec"]["failurePolicy"]["maxRestarts"] == 100


def test_gke_goes_through_xpk_where_it_is_installed(programs, capsys, tmp_path):
    programs.add("xpk", [((), [(0, "created")])])
    command = ["train", "--workdir", str(tmp_path), *TRAIN[3:]]
    place = ("--cluster", "c", "--project", "my-proj", "--zone", "us-east5-a")
    args = ("gke", "--name", "n", "--topology", "v5p:4x4x4", "--slices", "2", "--image", "r/alp:1", *place)
    assert launch(capsys, *args, command=command)[0] == 0
    ((name, *argv),) = programs.calls
    assert (name, argv[:2]) == ("xpk", ["workload", "create"])
    assert {"--tpu-type=v5p-128", "--num-slices=2", "--cluster=c"} <= set(argv)
    line = next(argument for argument in argv if argument.startswith("--command=")).removeprefix("--command=")
    assert shlex.split(line) == ["alp", *command, "--cluster", "gke"]


def test_gke_without_xpk_takes_kubectl_or_says_what_is_missing(programs, capsys, tmp_path):
    command = ["train", "--workdir", str(tmp_path / "run"), *TRAIN[3:]]
    args = ("gke", "--topology", "h100:16", "--image", "r/alp:1")
    code, _, err = launch(capsys, *args, command=command)
    assert (code, "kubectl is not installed here" in err) == (2, True)
    assert not (tmp_path / "run").exists()
    programs.add("kubectl", [((), [(0, "created")])])
    assert launch(capsys, *args, command=command)[0] == 0
    ((name, *argv),) = programs.calls
    assert (name, argv[:2]) == ("kubectl", ["apply", "-f"])
    assert yaml.safe_load(pathlib.Path(argv[2]).read_text())["kind"] == "JobSet"
    code, _, err = launch(capsys, *args[:-1], "r/alp:1", "--claim", "runs", command=command)
    assert (code, "would be lost with the pod" in err) == (2, True)


def on_tpu(programs, folder, states, ssh, retries=1, **more):
    """Runs a command on a TPU whose looks and runs have these outcomes; the verbs that gcloud was called with."""
    answers = [(("describe",), [(1, s) if s == "NOT_FOUND" else (0, s) for s in states]), (("ssh",), ssh)]
    programs.add("gcloud", [*answers, *(((verb,), [reply]) for verb, reply in more.items())])
    (folder / "launch.json").write_text('{"submitted": []}')
    vm = tpu.TpuVm("n", "my-proj", "us-central2-b", "v5litepod-64", "v2-alpha", "https://host/x/alp_jax", spot=True)
    try:
        return tpu.run("gcloud", vm, ["train", "--workdir", "runs/a b"], folder, retries=retries, poll_s=0.01)
    finally:
        record = json.loads((folder / "launch.json").read_text())["submitted"]
        assert [entry["argv"] for entry in record] == programs.calls


def verbs(programs):
    called = [next(word for word in call if word in ("create", "ssh", "delete", "describe")) for call in programs.calls]
    return [verb for verb in called if verb != "describe"]


@pytest.mark.parametrize("gone", ["SUSPENDED", "PREEMPTED"])
def test_a_tpu_that_is_preempted_is_made_again(programs, tmp_path, gone):
    """Waits for room, goes before it is active, is made again, goes during the run, is made again, and then it ends."""
    states = ["NOT_FOUND", "WAITING_FOR_RESOURCES", gone, "ACTIVE", gone, "ACTIVE", "ACTIVE"]
    assert on_tpu(programs, tmp_path, states, [(1, "lost"), (0, "done")], retries=2) == 0
    assert verbs(programs) == ["create", "delete", *("create", "ssh", "delete") * 2]
    ssh = next(call for call in programs.calls if "ssh" in call)
    line = next(argument for argument in ssh if argument.startswith("--command="))
    assert shlex.split(line)[-6:] == [".venv/bin/alp", "train", "--workdir", "runs/a b", "--cluster", "tpu"]


@pytest.mark.parametrize(("code", "state"), [(0, "SUSPENDED"), (2, "SUSPENDED"), (7, "ACTIVE")])
def test_a_tpu_whose_command_ended_is_deleted_and_not_made_again(programs, tmp_path, code, state):
    assert on_tpu(programs, tmp_path, ["NOT_FOUND", "ACTIVE", state], [(code, "")]) == code
    assert verbs(programs) == ["create", "ssh", "delete"]


def test_a_tpu_is_deleted_whatever_happens(programs, tmp_path, monkeypatch, capsys):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(tpu, "stream", interrupted)
    with pytest.raises(KeyboardInterrupt):
        on_tpu(programs, tmp_path, ["NOT_FOUND", "ACTIVE"], [], delete=(1, "try later"))
    assert verbs(programs) == ["create", "delete"]
    assert "n was not deleted and may cost money: gcloud compute tpus" in capsys.readouterr().err


def test_preemptions_without_end_can_be_gone_on_from(programs, tmp_path):
    with pytest.raises(Preempted, match="preempted 2 times; run it again") as ended:
        on_tpu(programs, tmp_path, ["NOT_FOUND", "ACTIVE"], [(42, "")])
    assert ended.value.exit_code == 42
    assert verbs(programs) == ["create", "ssh", "delete"] * 2


def test_a_tpu_of_somebody_else_is_left_alone(programs, tmp_path):
    with pytest.raises(UserError, match=r"--name n: a resource of that name exists \(ACTIVE\)"):
        on_tpu(programs, tmp_path, ["ACTIVE"], [])
    assert verbs(programs) == []


def test_a_tpu_command_that_fails_gives_its_exit_code(programs, capfd, tmp_path):
    programs.add("gcloud", [(("describe",), [(1, ""), (0, "ACTIVE")]), (("ssh",), [(2, "alp: no such file")])])
    code = main(["launch", "tpu", *VM, "--", "train", "--workdir", str(tmp_path)])
    out, err = capfd.readouterr()
    assert (code, "no such file" in out, "ended with exit code 2" in err) == (2, True, True)


def random_text(rng) -> str:
    pieces = [
        "a",
        "B7",
        " ",
        "'",
        '"',
        "$(touch canary)",
        "`id`",
        ";",
        "&&",
        "\\",
        "ü",
        "-x",
        "--",
        "#",
        "*",
        "\n",
        "%",
        "{}",
        "!",
        "=",
    ]
    return "".join(rng.choice(pieces) for _ in range(rng.randint(1, 6)))


def test_two_hundred_names_are_refused_or_come_through(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng, passed = random.Random(0), 0
    for number in range(200):
        name = random_text(rng) if number % 2 else "ok"
        command = ["train", "--workdir", random_text(rng), "--config=c.py", f"--config.init={random_text(rng)}"]
        for kind, options in (
            ("slurm", ["--partition", name] if number % 4 == 1 else ["--name", name]),
            ("gke", ["--name", name, "--topology", "v5e:4x4", "--image", "r/alp:1"]),
            ("tpu", ["--name", name, *VM]),
            ("local", ["--processes", "2"]),
        ):
            argv = ["--json", *_joined(options)]
            code, out, err = launch(capsys, kind, "--dry_run", *argv, command=command)
            if code:
                assert code == 2
                assert err.count("\n") == 1
                continue
            passed += 1
            found = json.loads(out)
            if kind == "slurm":
                assert words_of(found["script"])[1:-2] == command
            elif kind == "gke":
                job = yaml.safe_load(found["jobset.yaml"])["spec"]["replicatedJobs"][0]["template"]["spec"]
                assert job["template"]["spec"]["containers"][0]["command"][1:-2] == command
            elif kind == "tpu":
                line = found["argv"][1][-1].removeprefix("--command=")
                assert shlex.split(line)[-len(command) - 2 : -2] == command
            else:
                assert found["command"] == command
    assert 100 < passed < 700
    assert not list(tmp_path.rglob("canary"))


def _joined(options: list[str]) -> list[str]:
    """Flags with their values by '=', so that a value may begin with a hyphen."""
    joined = []
    for option in options:
        if option.startswith("--") and option[2:] in {*PATTERNS, "processes", "spot"}:
            joined.append(option)
        else:
            joined[-1] += f"={option}"
    return joined


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["slurm", "--name", "A"], "--name 'A' cannot be used"),
        (["slurm", "--time", "1 day"], "--time '1 day' cannot be used: it must be [DAYS-]HH:MM:SS"),
        (["slurm", "--nodes", "0"], "--nodes 0 must be from 1 to 4096"),
        (["slurm", "--gpus_per_node", "-1"], "--gpus_per_node -1 must be from 0 to 64"),
        (["gke", "--topology", "h100:12", "--image", "x"], "GPUs come in whole nodes of 8"),
        (["gke", "--topology", "b300:8", "--image", "x"], "unknown kind; known: a100"),
        (["local", "--processes", "3", "--gpus", "8"], "--gpus 8 do not divide over --processes 3"),
    ],
)
def test_what_cannot_be_is_refused(capsys, args, message):
    code, _, err = launch(capsys, *args, "--dry_run")
    assert (code, message in err) == (2, True)


def test_a_command_has_to_be_there_and_known():
    for command, message in (([], "there is no command"), (["rm", "-rf"], "'rm' cannot be launched")):
        with pytest.raises(UserError, match=message):
            check_command(command)
    with pytest.raises(UserError, match="control character"):
        check_command(["train", "--workdir", "a\nb"])
    with pytest.raises(UserError, match="cannot be used"):
        check("revision", "-x")


def test_processes_here_see_each_other_and_share_devices(monkeypatch, capfd):
    environs = local.environments(2, cpu_devices=2, gpus=0, port=local.free_port())
    assert local.run(["doctor", "--json"], environs) == 0
    lines = capfd.readouterr().out.splitlines()
    (answer,) = [json.loads(line[4:]) for line in lines if line.startswith("[0] {")]
    assert not [line for line in lines if line.startswith("[1] {")]
    assert [(host["process"], host["devices"]) for host in answer["hosts"]] == [(0, 2), (1, 2)]
    assert len(set(answer["devices"])) == 4
    assert (answer["mesh"]["data"], answer["batch_parts"]) == (4, 2)
    four = local.environments(4, cpu_devices=0, gpus=8, port=1)
    assert [environ["CUDA_VISIBLE_DEVICES"] for environ in four] == ["0,1", "2,3", "4,5", "6,7"]


def test_a_launch_here_is_recorded_and_keeps_the_one_before(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "run", lambda command, environs: 0)
    command = ["train", "--workdir", str(tmp_path), "--config=c.py"]
    for number in (1, 2):
        assert launch(capsys, "local", "--processes", "3", command=command)[0] == 0
        record = json.loads((tmp_path / "launch" / str(number) / "launch.json").read_text())
        assert (record["kind"], record["commands"], record["settings"]["processes"]) == ("local", [command], 3)


_CHILD = """
import os, signal, sys, time
def stop(number, frame):
    sys.exit(42)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
if sys.argv[-1] == "fail" and os.environ["ALP_PROCESS_ID"] == "1":
    sys.exit(7)
if sys.argv[-1] == "saving":
    time.sleep(1.0 * (os.environ["ALP_PROCESS_ID"] == "0"))
    print("saved", flush=True)
    sys.exit(42)
time.sleep(0.2 if sys.argv[-1] == "short" else 60)
"""


@pytest.mark.parametrize(("what", "code"), [("short", 0), ("fail", 7), ("stop", 42), ("saving", 42)])
def test_the_exit_code_is_that_of_the_first_failure_or_of_a_stop(tmp_path, monkeypatch, capsys, what, code):
    (tmp_path / "alp_jax").mkdir()
    (tmp_path / "alp_jax" / "__main__.py").write_text(_CHILD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(local, "_GRACE_S", 0.2)
    if what == "stop":
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    began = time.monotonic()
    environs = [
        {**environ, "PYTHONPATH": str(tmp_path)} for environ in local.environments(2, cpu_devices=0, gpus=0, port=1)
    ]
    assert local.run([what], environs) == code
    if what == "saving":  # the slower one was not killed when the other had stopped
        assert "[0] saved" in capsys.readouterr().out
    assert time.monotonic() - began < 20
    assert sys.modules["alp_jax"].__path__[0] != str(tmp_path / "alp_jax")
