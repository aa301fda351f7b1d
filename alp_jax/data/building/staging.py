"""Copies audio out of parquet files so that every clip can be read on its own.

A row of parquet is read together with its row group, and the clips of a shard, which come in the ladder's order, lie in
about as many row groups as there are clips. So before shards are written, the row groups are read once in order, and
the files that the shards need go into a tar file beside them, where workers find them by offset. If the disk has no
room for all of them, shards are written in waves, each with its own pass over the parquet files.
"""

import contextlib
import dataclasses
import math
import multiprocessing
import os
import pathlib
import shutil
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alp_jax.core import processes, storage
from alp_jax.core.progress import say
from alp_jax.data.audio.containers import MemberReader
from alp_jax.data.audio.errors import BadAudio
from alp_jax.data.building import shard

NAME, OFFSETS = ".staged.tar", ".staged.npy"
_ROW_BITS = 40
_WORTH = 2.0  # clips per row group from which one pass over the file costs less than reading its clips one by one
_ROOM = 0.5  # share of the free disk space that may be used
_MOST_WAVES = 16
_TOLD = 1e9  # bytes from which it takes minutes, and is announced


def waves(tasks: Sequence[shard.Task], folder: pathlib.Path) -> Iterator[list[shard.Task]]:
    """``tasks`` in their order, in one or more lists, with the audio of parquet rows laid out in ``folder`` for each.

    What was laid out is removed when the next list is requested, and at the end. Tasks come unchanged if nothing would
    be saved: no parquet, or too little room.
    """
    needed = _needed(tasks)
    total = sum(needed.values())
    if not total:
        yield list(tasks)
        return
    count = math.ceil(total / max(1.0, _ROOM * shutil.disk_usage(folder).free))
    if count > _MOST_WAVES:
        say(f"{folder}: no room to lay out {total / 1e9:.0f} GB of audio, so each clip is read with its row group")
        yield list(tasks)
        return
    if total > _TOLD:
        say(
            f"{folder}: laying out {total / 1e9:.1f} GB of audio of {len(needed)} parquet files first, in {count} parts"
        )
    for wave in np.array_split(np.arange(len(tasks)), min(count, len(tasks))):
        try:
            yield _staged([tasks[number] for number in wave], folder, sorted(needed))
        finally:
            for name in (NAME, OFFSETS):
                (folder / name).unlink(missing_ok=True)


def _places(task: shard.Task) -> tuple[pa.DictionaryArray, pa.StringArray]:
    with storage.open_binary(task.plan_file) as file:
        batch = pa.ipc.open_file(file).get_batch(task.number)
    return batch.column("audio_path").dictionary_encode(), batch.column("member")


def _needed(tasks: Sequence[shard.Task]) -> dict[str, float]:
    """Roughly how many bytes are needed of each parquet file that is worth a pass."""
    clips: Counter = Counter()
    for task in tasks:
        paths, _ = _places(task)
        counts = np.bincount(paths.indices.to_numpy(), minlength=len(paths.dictionary)).tolist()
        clips.update(dict(zip(paths.dictionary.to_pylist(), counts, strict=True)))
    needed = {}
    for path, count in clips.items():
        if path.lower().endswith(".parquet"):
            with contextlib.suppress(OSError, pa.ArrowException):  # reading its clips reports what is wrong
                facts = pq.read_metadata(path)
                if count > _WORTH * facts.num_row_groups:
                    needed[path] = os.path.getsize(path) * min(1.0, count / max(1, facts.num_rows))
    return needed


def _staged(tasks: list[shard.Task], folder: pathlib.Path, paths: list[str]) -> list[shard.Task]:
    """The tasks with the audio of their clips in ``paths`` laid out in ``folder``."""
    keys, columns = [], [""] * len(paths)
    for task in tasks:
        where, members = _places(task)
        known = pc.index_in(where.dictionary, value_set=pa.array(paths)).fill_null(-1).to_numpy()
        code = known[where.indices.to_numpy()].astype(np.int64)
        row = np.zeros(len(code), np.int64)
        for clip_number in np.flatnonzero(code >= 0):
            number, _, columns[code[clip_number]] = members[int(clip_number)].as_py().partition(":")
            row[clip_number] = int(number)
        keys.append(np.where(code < 0, -1, code << _ROW_BITS | row))
    wanted, clip_number = np.unique(np.concatenate(keys), return_inverse=True)
    process = multiprocessing.get_context("spawn").Process(
        target=_child, args=(paths, columns, wanted, str(folder), tasks[0].limits.max_bytes, os.getpid()), daemon=True
    )
    for name in (NAME, OFFSETS):  # left by a build that was killed, and about other clips
        (folder / name).unlink(missing_ok=True)
    process.start()
    try:
        process.join()
    finally:
        process.kill()
    if process.exitcode != 0:  # workers then read the rows themselves, and are watched in case one dies
        say(f"{folder}: audio was not laid out (exit code {process.exitcode}), so each clip is read with its row group")
        return tasks
    offsets = np.load(folder / OFFSETS)[clip_number.ravel()]
    parts = np.split(offsets, np.cumsum([len(part) for part in keys])[:-1])
    return [dataclasses.replace(task, staged=(str(folder / NAME), p)) for task, p in zip(tasks, parts, strict=True)]


def _child(paths, columns, wanted, folder: str, max_bytes: int, parent: int) -> None:
    """Body of the process that opens the files, with the limits of a worker."""
    processes.confine(parent, processes.MEMORY_BYTES)
    try:
        lay_out(paths, columns, wanted, pathlib.Path(folder), max_bytes)
    except Exception as error:  # a full disk or no memory: the build continues without staging
        say(f"{folder}: {type(error).__name__}: {error}")
        sys.exit(1)


def lay_out(
    paths: Sequence[str], columns: Sequence[str], wanted_N: np.ndarray, folder: pathlib.Path, max_bytes: int
) -> None:
    """Writes the audio of rows to the tar file NAME, and to OFFSETS where each begins in it (int64[N]).

    Args:
      paths: parquet files; ``columns`` has the column of audio of each, "" for ``audio``.
      wanted_N: int64, number of the file << _ROW_BITS | row, ascending; -1 for none. What is none, or cannot be read,
        begins at -1.
    """
    read, offsets = MemberReader().read, np.full(len(wanted_N), -1, np.int64)
    with open(folder / NAME, "wb") as file:
        for number in np.flatnonzero(wanted_N >= 0):
            key = int(wanted_N[number])
            code, row = key >> _ROW_BITS, key & ((1 << _ROW_BITS) - 1)
            try:
                data, extension = read(paths[code], f"{row}:{columns[code]}" if columns[code] else str(row), max_bytes)
            except BadAudio:
                continue
            entry = tarfile.TarInfo(f"{number}{extension}")
            entry.size = len(data)
            file.write(entry.tobuf(tarfile.USTAR_FORMAT))
            offsets[number] = file.tell()
            file.write(data + bytes(-len(data) % tarfile.BLOCKSIZE))
    np.save(folder / OFFSETS, offsets)
