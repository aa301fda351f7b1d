"""Starts real processes on 127.0.0.1 that form one run on fake CPU devices, with gloo between them."""

import dataclasses
import os
import pathlib
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a process ended; ``code`` is negative for a signal."""

    code: int
    out: str
    err: str


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Cluster:
    """``processes`` processes that share ``devices`` fake devices; a context that leaves none of them behind.

    Args:
      arguments: what follows ``python``, for all processes or, as a list of lists, for each.
      environ: more environment variables, likewise a dictionary or one per process.
    """

    def __init__(self, arguments: list, processes: int, *, devices: int = 8, environ=None, coordinator: str = ""):
        coordinator = coordinator or f"127.0.0.1:{free_port()}"
        per_process = arguments if arguments and isinstance(arguments[0], list) else [arguments] * processes
        extra = environ if isinstance(environ, list) else [environ or {}] * processes
        self.processes = [
            subprocess.Popen(
                [sys.executable, *(str(argument) for argument in mine)],
                env=_environ(coordinator, processes, i, devices) | extra[i],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for i, mine in enumerate(per_process)
        ]

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *exc) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def wait(self, timeout_s: float = 60.0) -> list[Ended]:
        """How all of them ended, by number. A process still running after ``timeout_s`` is killed: code -9."""
        deadline = time.monotonic() + timeout_s
        ended = []
        for process in self.processes:
            try:
                out, err = process.communicate(timeout=max(deadline - time.monotonic(), 0.01))
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
            ended.append(Ended(process.returncode, out, err))
        return ended


def run(arguments: list, processes: int, *, timeout_s: float = 60.0, **options) -> list[Ended]:
    """Starts the processes (see ``Cluster``) and waits for them."""
    with Cluster(arguments, processes, **options) as cluster:
        return cluster.wait(timeout_s)


def _environ(coordinator: str, processes: int, process: int, devices: int) -> dict[str, str]:
    flags = (
        f"--xla_force_host_platform_device_count={devices // processes}",
        "--xla_backend_optimization_level=0",
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_enable_concurrency_optimized_scheduler=false",
    )
    cluster = {
        "ALP_COORDINATOR": coordinator,
        "ALP_NUM_PROCESSES": str(processes),
        "ALP_PROCESS_ID": str(process),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": " ".join(flags),
        "JAX_CPU_ENABLE_ASYNC_DISPATCH": "false",
        "PYTHONPATH": str(ROOT),
    }
    return os.environ | cluster
