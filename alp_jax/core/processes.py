"""Child processes that read possibly hostile or huge input: bounded in memory, and never left behind."""

import concurrent.futures
import multiprocessing
import os
import pathlib
import resource
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing import resource_tracker
from typing import Any

MEMORY_BYTES = 4 << 30  # that one child may take beyond its imports
CLIP_SECONDS = 60.0  # for one clip
START_SECONDS = 120.0  # for imports on a busy machine


def die_with_parent(parent: int) -> None:
    """Ends this process within a second of its parent's death, whatever the cause.

    Polls, because Linux's parent death signal follows the thread that started the child, not the process.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def cap_memory(more_bytes: int) -> None:
    """Limits the address space to ``more_bytes`` above what the imports took; Linux only."""
    try:
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def confine(parent: int, memory_bytes: int) -> None:
    """What every child does first: it ends with its parent, leaves Ctrl-C to it, and has a limit on its memory."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    cap_memory(memory_bytes)


class PipedProcess:
    """A fresh process that runs ``main(pipe, parent, memory_bytes)``; ``pipe`` is this end of it."""

    def __init__(self, main: Callable, memory_bytes: int):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=main, args=(theirs, os.getpid(), memory_bytes), daemon=True)
        self.process.start()
        theirs.close()

    def kill(self) -> None:
        """Ends the process at once, waits until it is gone, and closes the pipe."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def quiet_tracker() -> None:
    """Starts Python's shared-memory tracker with its warnings off.

    A grain worker that is stopped drops the batch it was about to hand over. The tracker frees that memory when the
    program ends, as it should, but warns of a leak each time, and only its environment can silence it.
    """
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (before, "ignore:resource_tracker")))
    try:
        resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


def in_fresh_process(function: Callable, *args: Any) -> Any:
    """``function(*args)`` in a process of its own, so that measurements do not see what was done before."""
    quiet_tracker()  # which the child shares
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()
