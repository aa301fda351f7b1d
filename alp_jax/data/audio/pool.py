"""Decodes many untrusted files in a few watched processes, in order, with only a few decoded files in memory.

Each worker holds one file at a time, so a file that kills or hangs a worker is known, and only that file is lost.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from multiprocessing import connection
from typing import NamedTuple

import numpy as np

from alp_jax.core.errors import StorageError
from alp_jax.core.processes import CLIP_SECONDS, MEMORY_BYTES, START_SECONDS, PipedProcess, confine
from alp_jax.data.audio import errors, reader
from alp_jax.data.audio.errors import BadAudio

_AHEAD = 2  # files per worker that may be decoded before an earlier one is done


class Failure(NamedTuple):
    """Why a file gave no sound: a key of ``errors.REASONS``, and a line for people."""

    reason: str
    detail: str


def decode_files(
    paths: Sequence[str],
    limits: reader.Limits,
    *,
    workers: int,
    file_seconds: float = CLIP_SECONDS,
    memory_bytes: int = MEMORY_BYTES,
) -> Iterator[np.ndarray | Failure]:
    """Yields for every path, in order, its sound (int16[n], 16 kHz mono) or a Failure.

    Close the iterator (or exhaust it) to end the processes. Besides the files in the workers, at most
    ``2 * workers`` decoded files are held.

    Args:
      workers: decoding processes.
      file_seconds: time for one file; beyond it the file fails as ``decoder_timeout``.
      memory_bytes: how much one worker may use beyond its imports.

    Raises:
      StorageError: a worker did not start.
    """
    pool: list[_Worker] = []
    results: dict[int, np.ndarray | Failure] = {}
    given = 0
    try:
        for wanted in range(len(paths)):
            while True:
                while len(pool) < min(workers, len(paths) - wanted):
                    pool.append(_Worker(memory_bytes))
                for worker in list(pool):
                    if worker.job is None and given < min(len(paths), wanted + _AHEAD * workers):
                        worker.give(given, paths[given], limits, file_seconds)
                        given += 1
                if wanted in results:
                    break
                connection.wait([worker.pipe for worker in pool if worker.job is not None], timeout=0.5)
                for worker in list(pool):
                    if worker.job is not None and not _listen(worker, results):
                        worker.kill()
                        pool.remove(worker)
            yield results.pop(wanted)
    finally:
        for worker in pool:
            worker.kill()


class _Worker(PipedProcess):
    """One process; ``job`` is the number of the file it was given, None when it is free."""

    def __init__(self, memory_bytes: int):
        super().__init__(_main, memory_bytes)
        self.job, self.ready = None, False
        self.file_seconds, self.deadline = 0.0, time.monotonic() + START_SECONDS

    def give(self, job: int, path: str, limits: reader.Limits, file_seconds: float) -> None:
        self.job, self.file_seconds = job, file_seconds
        if self.ready:
            self.deadline = time.monotonic() + file_seconds
        with contextlib.suppress(BrokenPipeError):  # the loop in decode_files notices that it died
            self.pipe.send((path, limits))


def _listen(worker: _Worker, results: dict[int, np.ndarray | Failure]) -> bool:
    """Takes what a busy worker has sent; returns whether it stays alive. If not, its file becomes a Failure.

    Messages are read before the deadline is checked: the caller may have been away for longer than a file may take.
    """
    try:
        while worker.job is not None and worker.pipe.poll():
            message = worker.pipe.recv()
            if worker.ready:
                results[worker.job], worker.job = message, None
            else:
                worker.ready, worker.deadline = True, time.monotonic() + worker.file_seconds
    except (EOFError, OSError):
        reason, detail = "decoder_crashed", errors.REASONS["decoder_crashed"]
    else:
        if worker.job is None or time.monotonic() < worker.deadline:
            return True
        reason, detail = "decoder_timeout", f"not decoded after {worker.file_seconds:g} s"
    if not worker.ready:
        raise StorageError(f"a decoding worker did not start (code {worker.process.exitcode}): {reason}")
    results[worker.job] = Failure(reason, detail)
    return False


def _main(pipe, parent: int, memory_bytes: int) -> None:
    """Body of a worker: says that it has started, then answers every path until the pipe closes."""
    confine(parent, memory_bytes)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # MP3 decoders write to stderr
    with contextlib.suppress(EOFError, BrokenPipeError):
        pipe.send(None)
        while True:
            pipe.send(_load(*pipe.recv()))


def _load(path: str, limits: reader.Limits) -> np.ndarray | Failure:
    try:
        return reader.load(path, 0.0, None, limits)
    except BadAudio as error:
        return Failure(error.reason, str(error))
    except MemoryError:
        return Failure("decoder_crashed", "decoder_crashed: out of memory")
