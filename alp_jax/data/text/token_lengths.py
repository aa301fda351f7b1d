"""How many tokens every caption of a data set has: measured once for a tokenizer, and kept beside the data set.

The file holds the lengths before anything is cut, so that one file serves every ``text_budget``. It is measured in
pieces, in all usable processes; a measurement that was stopped goes on with the pieces that are missing, and hosts that
measure in one folder share the work.
"""

import concurrent.futures
import functools
import hashlib
import multiprocessing
import os
import pathlib
import random
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from alp_jax.config.schema import DataConfig
from alp_jax.core import storage
from alp_jax.core.cores import usable_cores
from alp_jax.core.errors import DataError, StorageError
from alp_jax.core.hashing import fingerprint
from alp_jax.core.paths import cache_dir
from alp_jax.core.processes import die_with_parent, quiet_tracker
from alp_jax.core.progress import Progress
from alp_jax.data.store.dataset import Dataset
from alp_jax.data.store.mapped import MappedTable, write_table
from alp_jax.data.text.normalise import clean
from alp_jax.data.text.open import open_tokenizer, tokenizer_path

PIECE = 1 << 15  # clips
_MOST = np.iinfo(np.uint16).max
_DIGEST = b"alp_jax_digest"


class TokenLengths:
    """Lengths of the captions of every clip, see ``token_lengths``; memory-mapped.

    Attributes:
      name: of the file, which tells what was measured.

    Raises:
      DataError: the file is damaged, or of another number of clips.
    """

    def __init__(self, path: str | os.PathLike, clips: int):
        self._table, self.name = MappedTable(path), pathlib.PurePath(path).name
        lists = self._table.column("tokens")
        self._ends, self._values = lists.offsets.to_numpy(), lists.values.to_numpy()
        stated = (self._table.table.schema.metadata or {}).get(_DIGEST, b"").decode()
        if len(lists) != clips or stated != _digest(self._ends, self._values):
            raise DataError(f"{path} is damaged: delete it, and the captions are measured again")
        self._table.release()

    def of(self, row_N: np.ndarray, budget: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of the longest caption of clips, int64[N], and of all their captions on average, float64[N].

        Captions count with ``budget`` tokens at most. Rows rise, and each has a caption.
        """
        first_N, end_N = self._ends[row_N].astype(np.int64), self._ends[row_N + 1].astype(np.int64)
        begin = int(first_N[0])
        value = np.minimum(self._values[begin : int(end_N[-1])], budget).astype(np.int64)
        # every second of these stretches belongs to a clip; the others, between clips, may be empty
        bounds = np.stack([first_N, end_N], 1).reshape(-1)[:-1] - begin
        longest_N = np.maximum.reduceat(value, bounds)[::2]
        return longest_N, np.add.reduceat(value, bounds)[::2] / (end_N - first_N)

    def release(self) -> None:
        """Gives back the memory of pages that were read."""
        self._table.release()


def token_lengths(dataset: Dataset, config: DataConfig, *, measure: bool = True) -> TokenLengths | None:
    """The lengths of the captions of ``dataset``; None without a tokenizer.

    They are measured now if that was not done before; without ``measure``, None stands for them. The file lies in the
    data set's folder or, where nobody may write there, in the cache folder.

    Raises:
      DataError: a record is damaged.
      UserError: the tokenizer cannot be read.
    """
    vocabulary = tokenizer_path(dataset.path, config)
    if not vocabulary.is_file():
        return None
    name = f"tokens-{fingerprint([dataset.fingerprint, open_tokenizer(vocabulary).sha256, config.text_clean])}"
    folders = [dataset.path, cache_dir() / "tokens"]
    for folder in folders:
        if found := _open(folder, name, len(dataset)):
            return found
    if not measure:
        return None
    try:
        _measure(dataset, config, folders[0], name)
        return _open(folders[0], name, len(dataset))
    except StorageError:
        _measure(dataset, config, folders[1], name)
        return _open(folders[1], name, len(dataset))


def _open(folder: storage.Location, name: str, clips: int) -> TokenLengths | None:
    path = storage.join(folder, f"{name}.arrow")
    if storage.size(path) < 0:
        return None
    return TokenLengths(storage.local_copy(path, cache_dir() / "tokens", f"{name}.arrow"), clips)


def _digest(ends: np.ndarray, values: np.ndarray) -> str:
    digest = hashlib.blake2b(ends, digest_size=16)
    digest.update(values)
    return digest.hexdigest()


def _measure(dataset: Dataset, config: DataConfig, folder: storage.Location, name: str) -> None:
    """Measures the pieces that are missing, and joins all of them."""
    starts = range(0, len(dataset), PIECE)
    pieces = {f"{name}.{start:09d}.piece": range(start, min(start + PIECE, len(dataset))) for start in starts}
    with Progress("measure captions", len(dataset), "clips") as progress:
        there = set(storage.names(folder)) & set(pieces)
        for piece in there:
            progress.skip(len(pieces[piece]))
        missing = sorted(set(pieces) - there)
        random.shuffle(missing)  # hosts that begin together measure different pieces
        joined = f"{name}.arrow"
        work = functools.partial(_piece, dataset, config, folder, joined)
        for piece, lists in _spread(work, [(piece, pieces[piece]) for piece in missing]):
            if lists is not None:
                write_table(storage.join(folder, piece), lists)
            progress.update(len(pieces[piece]))
    if joined not in storage.names(folder):  # else another host was faster, and may have removed pieces
        tables = [pa.ipc.open_file(storage.read(storage.join(folder, piece))).read_all() for piece in pieces]
        lists = pa.concat_arrays([table["tokens"].combine_chunks() for table in tables])
        digest = _digest(lists.offsets.to_numpy(), lists.values.to_numpy())
        table = pa.table({"tokens": lists}).replace_schema_metadata({_DIGEST: digest})
        write_table(storage.join(folder, joined), table)
    for piece in pieces:
        storage.remove(storage.join(folder, piece))


def _spread(work, jobs: list[tuple[str, range]]) -> Iterator[tuple[str, pa.Table | None]]:
    """``work(name, rows)`` of every job, in as many processes as are worth starting; in any order."""
    processes = min(len(jobs), len(usable_cores()))
    if processes <= 1:
        yield from ((name, work(name, rows)) for name, rows in jobs)
        return
    quiet_tracker()
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, context, die_with_parent, (os.getpid(),)) as pool:
        futures = {pool.submit(work, name, rows): name for name, rows in jobs}
        try:
            for future in concurrent.futures.as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _piece(
    dataset: Dataset, config: DataConfig, folder: storage.Location, joined: str, name: str, rows: range
) -> pa.Table | None:
    """The lengths of the clips at ``rows``; None where another host has measured them, or everything, meanwhile."""
    if any(storage.size(storage.join(folder, there)) >= 0 for there in (name, joined)):
        return None
    tokenizer = open_tokenizer(tokenizer_path(dataset.path, config))
    ends, lengths = [0], []
    for captions in dataset.captions(rows):
        lengths += [min(_MOST, len(tokenizer.encode(clean(caption, config.text_clean)))) for caption in captions]
        ends.append(len(lengths))
    lists = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(lengths, pa.uint16()))
    return pa.table({"tokens": lists})
