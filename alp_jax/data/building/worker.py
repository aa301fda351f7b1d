"""Worker processes that decode untrusted files: capped in memory, watched per clip, and replaced when they die or hang.

Tasks and results travel over one pipe per worker. A worker announces each clip before it touches it; if it then dies
or falls silent, that clip is marked and the shard is restarted without it, so one bad file costs one clip.
"""

import collections
import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from multiprocessing import connection

from alp_jax.core.errors import StorageError
from alp_jax.core.processes import CLIP_SECONDS, MEMORY_BYTES, START_SECONDS, PipedProcess, confine
from alp_jax.data.building import shard

_LOOK_SECONDS = 0.5  # between looks at silent workers
_UNEXPLAINED_DEATHS = 3  # that one shard may cost: the machine may have run out of memory


def main(pipe, parent: int, memory_bytes: int) -> None:
    """Body of a worker: writes one shard per message until the pipe closes."""
    confine(parent, memory_bytes)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # MP3 decoders write to stderr
    pipe.send(("ready", None))
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            task, poisoned = pipe.recv()
            try:
                shard.write(task, poisoned, lambda number: pipe.send(("clip", number)))
            except BrokenPipeError:
                raise
            except Exception as error:
                pipe.send(("error", f"{type(error).__name__}: {error}"))
            else:
                pipe.send(("done", None))


class _Worker(PipedProcess):
    def __init__(self, memory_bytes: int):
        super().__init__(main, memory_bytes)
        self.task = None
        self.poisoned = {}
        self.clip = None
        self.started = 0
        self.deadline = time.monotonic() + START_SECONDS

    def give(self, task: shard.Task, poisoned: dict[int, str]) -> None:
        self.task, self.poisoned, self.clip, self.started = task, poisoned, None, 0
        self.deadline = float("inf")
        with contextlib.suppress(BrokenPipeError):  # the loop in run notices that it died
            self.pipe.send((task, poisoned))


def run(
    tasks: Sequence[shard.Task],
    workers: int,
    *,
    clip_seconds: float = CLIP_SECONDS,
    memory_bytes: int = MEMORY_BYTES,
) -> Iterator[int]:
    """Writes all shards; yields how many clips were started since the last yield.

    The count is negative when a shard has to be restarted.

    Raises:
      StorageError: a shard could not be written (disk full, no permission), or a worker did not start.
    """
    waiting = [(task, {}) for task in reversed(tasks)]
    pool: list[_Worker] = []
    looked = time.monotonic()
    deaths: collections.Counter = collections.Counter()
    try:
        while waiting or any(w.task for w in pool):
            while len(pool) < min(workers, len(waiting) + sum(w.task is not None for w in pool)):
                pool.append(_Worker(memory_bytes))
            connection.wait([w.pipe for w in pool], timeout=_LOOK_SECONDS)
            looked, before = time.monotonic(), looked
            for worker in pool:  # if this process was stopped or starved, so were they
                worker.deadline += max(0.0, looked - before - 2 * _LOOK_SECONDS)
            for worker in list(pool):  # a copy: dead ones leave the pool
                started, alive = _listen(worker, waiting, clip_seconds)
                if started:
                    yield started
                if not alive:
                    pool.remove(worker)
                    _bury(worker, waiting, deaths)
                    yield -worker.started
    finally:
        for worker in pool:
            worker.kill()


def _listen(worker: _Worker, waiting: list, clip_seconds: float) -> tuple[int, bool]:
    """Takes the messages of one worker until it is free; returns the clips started, and whether it is alive."""
    started, free = 0, False
    try:
        while not free and worker.pipe.poll():
            kind, value = worker.pipe.recv()
            if kind == "clip" and value == shard.FINISHING:
                worker.clip, worker.deadline = None, float("inf")
                continue
            if kind == "clip":
                started, worker.started = started + 1, worker.started + 1
                worker.clip, worker.deadline = value, time.monotonic() + clip_seconds
                continue
            if kind == "error":
                raise StorageError(f"shard {worker.task.path} could not be written: {value}")
            free = True  # it has started, or its shard is done
            worker.task, worker.deadline = None, float("inf")
            if waiting:
                worker.give(*waiting.pop())
    except (EOFError, ConnectionResetError):
        return started, False
    return started, time.monotonic() < worker.deadline


def _bury(worker: _Worker, waiting: list, deaths: collections.Counter) -> None:
    """Ends a dead or hung worker and puts its shard back with the guilty clip marked.

    A clip that was too slow, or whose worker was killed from outside (by the system when memory is short), is tried
    once more, since the machine may be to blame. ``deaths`` counts these, and per shard the deaths that no clip
    explains.
    """
    hung = worker.process.is_alive() and time.monotonic() >= worker.deadline
    worker.kill()
    if worker.task is None:
        raise StorageError(f"a decoding worker ended with code {worker.process.exitcode} before it took any work")
    if worker.clip is not None:
        case = (worker.task.path, worker.clip)
        deaths[case] += 1
        if (hung or worker.process.exitcode == -signal.SIGKILL) and deaths[case] == 1:
            waiting.append((worker.task, worker.poisoned))
            return
        blame = {worker.clip: "decoder_timeout" if hung else "decoder_crashed"}
        waiting.append((worker.task, worker.poisoned | blame))
        return
    deaths[worker.task.path] += 1
    if deaths[worker.task.path] > _UNEXPLAINED_DEATHS:
        raise StorageError(f"shard {worker.task.path}: workers keep ending with code {worker.process.exitcode}")
    waiting.append((worker.task, worker.poisoned))
