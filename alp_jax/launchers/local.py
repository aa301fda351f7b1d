"""Several processes of one run on this machine."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

from alp_jax.core.errors import ChildFailed, Preempted, UserError
from alp_jax.launchers.names import check_count, option
from alp_jax.launchers.record import new_folder, write_record

_SAVING_S = 600.0  # that the others have to save once one was stopped
_GRACE_S = 30.0  # that the others have to end by themselves once one has failed


def launch(command: list[str], *, processes: int, gpus: int, cpu_devices: int, dry_run: bool) -> tuple[dict, str]:
    """Runs a command in several processes to its end; returns the result, and lines to print.

    With ``dry_run`` it shows what would be started.

    Raises:
      UserError: numbers that are not possible.
      ChildFailed: a process failed.
    """
    check_count("processes", processes, 256)
    if gpus < 0 or cpu_devices < 0:
        raise UserError(f"--gpus {gpus} and --cpu_devices {cpu_devices} cannot be negative")
    environs = environments(processes, cpu_devices=cpu_devices, gpus=gpus, port=free_port())
    if dry_run:
        shown = [" ".join(f"{name}={value}" for name, value in environ.items()) for environ in environs]
        lines = [f"[{number}] {environ} alp {command}" for number, environ in enumerate(shown)]
        return {"kind": "local", "command": command, "environments": environs}, "\n".join(lines)
    if option(command, "--workdir") is not None:
        settings = {"processes": processes, "gpus": gpus, "cpu_devices": cpu_devices, "environments": environs}
        write_record(new_folder(command), "local", [command], settings, {})
    code = run(command, environs)
    if code:
        raise ChildFailed(f"a process of {processes} ended with exit code {code}", code)
    return {"kind": "local", "command": command, "exit_code": 0}, ""


def environments(processes: int, *, cpu_devices: int, gpus: int, port: int) -> list[dict[str, str]]:
    """The environment variables that each process gets in addition to this one's.

    Args:
      cpu_devices: fake CPU devices of each process; 0: whatever is there.
      gpus: GPUs of this machine, shared out equally; 0: every process sees all of them.

    Raises:
      UserError: the GPUs do not divide over the processes.
    """
    if gpus % processes:
        raise UserError(f"--gpus {gpus} do not divide over --processes {processes}")
    share, environs = gpus // processes, []
    for i in range(processes):
        environ = {
            "ALP_COORDINATOR": f"127.0.0.1:{port}",
            "ALP_NUM_PROCESSES": str(processes),
            "ALP_PROCESS_ID": str(i),
        }
        if cpu_devices:
            environ |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(cpu_devices)}
        if share:
            environ["CUDA_VISIBLE_DEVICES"] = ",".join(str(i * share + k) for k in range(share))
        environs.append(environ)
    return environs


def free_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run(command: Sequence[str], environs: Sequence[Mapping[str, str]]) -> int:
    """Runs ``python -m alp_jax COMMAND`` once per environment and waits for all of them.

    Each line they print is prefixed with the number of its process. SIGTERM and SIGINT are passed on. Once one fails
    the others have some seconds to end by themselves, as the processes of one run do, and are then killed. One that was
    stopped (exit code 42) did not fail: others may still be saving.

    Returns:
      0, or the exit code of the first that failed; 42 where they were stopped and can go on.
    """
    argv = [sys.executable, "-m", "alp_jax", *command]
    children: list[subprocess.Popen] = []
    readers: list[threading.Thread] = []
    asked: list[int] = []

    def forward(number, frame):
        asked.append(number)
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for i, more in enumerate(environs):
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            children.append(subprocess.Popen(argv, env={**os.environ, **more}, **pipes))
            readers.append(threading.Thread(target=_print_lines, args=(i, children[-1])))
            readers[-1].start()
            if asked:  # the signal arrived before this process was in the list
                children[-1].send_signal(asked[0])
        return _wait(children)
    finally:
        for child in children:
            child.kill()
        for reader in readers:
            reader.join()
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(children: list[subprocess.Popen]) -> int:
    failed, since, stopped = 0, 0.0, 0.0
    while True:
        codes = [child.poll() for child in children]
        stopped = stopped or (time.monotonic() if Preempted.exit_code in codes else 0.0)
        if not failed and (bad := [code for code in codes if code and code != Preempted.exit_code]):
            failed, since = bad[0], time.monotonic()
        late = (failed and time.monotonic() - since > _GRACE_S) or (stopped and time.monotonic() - stopped > _SAVING_S)
        if None not in codes or late:
            code = failed or (Preempted.exit_code if Preempted.exit_code in codes else 0)
            return code if code >= 0 else 128 - code  # ended by a signal: 128 plus its number, as shells say it
        time.sleep(0.05)


def _print_lines(number: int, child: subprocess.Popen) -> None:
    for line in child.stdout:
        sys.stdout.write(f"[{number}] {line}")
        sys.stdout.flush()
