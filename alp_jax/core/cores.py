"""Which CPU cores this process may use, and how much of them it has used."""

import contextlib
import multiprocessing
import os
import pathlib
import sys
import time


def usable_cores() -> list[int]:
    """Numbers of the cores; fewer than the machine has where a scheduler, container or parent process limits them."""
    return sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else list(range(os.cpu_count() or 1))


def processor_seconds() -> float:
    """Processor time used so far by this process and, where the system reports it, by its running children."""
    total = time.process_time()
    for child in multiprocessing.active_children():
        with contextlib.suppress(OSError):
            fields = pathlib.Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total
