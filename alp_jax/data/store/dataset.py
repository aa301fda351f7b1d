"""A built data set: a memory-mapped index, records read by row with their checksums, and the ladder.

Opening costs a listing of the folder and one memory map, whatever the number of clips. A ``Dataset`` pickles as its
path and description, without its memory map, so a process that receives one opens files of its own. The folder
may be a URL of an object store: the index is copied to the cache folder once, and records are read by range.
"""

import functools
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from alp_jax.core import storage
from alp_jax.core.clip import SPLITS
from alp_jax.core.errors import DataError, UserError
from alp_jax.core.hashing import fingerprint
from alp_jax.core.names import choose
from alp_jax.core.paths import cache_dir
from alp_jax.data.store import ladder, records
from alp_jax.data.store.mapped import MappedTable
from alp_jax.data.store.schema import INFO, PLAN, SCHEMA_VERSION
from alp_jax.data.store.shard_cache import ShardCache
from alp_jax.data.store.skim import captions_of, skim

_T = TypeVar("_T")

_ASKED = 256  # records of a remote data set that are asked for at a time
_PLACE = ("shard", "row", "offset", "length")


def _view(name: str) -> functools.cached_property:
    return functools.cached_property(lambda dataset: dataset.column(name))


class Dataset:
    """A built data set, see ``open_dataset``. Columns are numpy views into the memory-mapped index, one entry per clip.

    Attributes:
      path: folder of the data set: a local path, or a URL as a string.
      info: the content of ``dataset.json``.
      fingerprint: identity of the stored clips.
      num_clips: number of clips N.
    """

    num_samples = _view("num_samples")  # int32[N], at 16 kHz
    num_captions = _view("num_captions")  # uint16[N]
    ladder = _view("ladder")  # int32[N], rank among training clips in use that have captions; else -1
    source = _view("source")  # int32[N], index into ``sources``
    excluded = _view("excluded")  # int8[N], index into ``exclusions``

    def __init__(self, path: storage.Location):
        self.path = str(path) if storage.is_remote(path) else storage.local(path)
        self.info = _read_info(self.path)
        self.fingerprint: str = self.info["fingerprint"]
        self.num_clips: int = self.info["num_clips"]

    def __getstate__(self):
        names = ("path", "info", "fingerprint", "num_clips")
        return {name: getattr(self, name) for name in names}

    def __len__(self) -> int:
        return self.num_clips

    def __repr__(self) -> str:
        return f"Dataset({str(self.path)!r}, clips={self.num_clips}, fingerprint={self.fingerprint})"

    @functools.cached_property
    def _index(self) -> MappedTable:
        entry = self.info["index"]
        path = self._file(entry)
        mapped = MappedTable(storage.local_copy(path, cache_dir() / "indexes", f"{entry['sha256']}.arrow"))
        if len(mapped.table) != self.num_clips:
            raise DataError(f"{path} has {len(mapped.table)} rows, but dataset.json says {self.num_clips}")
        return mapped

    def _file(self, entry: dict) -> str:
        return storage.resolve(self.path, entry["name"])

    @functools.cached_property
    def _remote(self) -> bool:
        return storage.is_remote(self.path)

    @functools.cached_property
    def _shard_files(self) -> list[storage.Location]:
        """Location of each shard; local ones without a ``file://`` prefix."""
        paths = (self._file(entry) for entry in self.info["shards"])
        return [path if storage.is_remote(path) else storage.local(path) for path in paths]

    def release(self) -> None:
        """Gives back the memory of index pages that were read; arrays stay valid."""
        if "_index" in vars(self):
            self._index.release()

    def _names(self, name: str) -> tuple[str, ...]:
        return tuple(self._index.column(name).dictionary.to_pylist())

    def column(self, name: str) -> np.ndarray:
        """A column of ``schema.INDEX_SCHEMA`` as a view: its numbers or, for a column of names, their codes."""
        return self._index.numpy(name)

    def values(self, name: str, rows: Iterable[int]) -> np.ndarray:
        """``column(name)[rows]``, read from the file: mapped memory does not grow, however many rows are read."""
        return self._index.values(name, rows)

    @property
    def codec(self) -> str:
        """Of the audio: a name of ``records.CODECS``, or "mixed" where data sets of both were merged."""
        return self.info.get("codec", "mixed")

    @functools.cached_property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources; the codes in ``column("source")`` are positions in it."""
        return self._names("source")

    @functools.cached_property
    def split(self) -> np.ndarray:
        """int8[N], index into ``alp_jax.core.clip.SPLITS``."""
        codes = np.array([SPLITS.index(name) for name in self._names("split")], np.int8)
        return codes[self._index.numpy("split")]

    @functools.cached_property
    def exclusions(self) -> tuple[str, ...]:
        """Reasons why clips are not used; "" stands for those in use."""
        return self._names("excluded")

    @functools.cached_property
    def recording(self) -> pa.Array:
        """Arrow strings [N]; ``np.asarray`` makes them Python strings, all at once."""
        return self._index.column("recording")

    @functools.cached_property
    def id(self) -> pa.Array:
        """Arrow strings [N]."""
        return self._index.column("id")

    @functools.cached_property
    def _place(self) -> tuple[np.ndarray, ...]:
        return tuple(self.column(name) for name in _PLACE)

    def shard_starts(self) -> np.ndarray:
        """First row of every shard, and at the end the number of clips; int64[shards + 1]."""
        return np.searchsorted(self._place[0], np.arange(len(self.info["shards"]) + 1))

    def read(self, row: int, audio: bool = True) -> records.Record:
        """The clip at ``row``, after verifying its checksums; ``audio=False`` does not decode the sound (None).

        Raises:
          DataError: names the shard and record if anything does not match.
        """
        return next(self.read_many([row], audio=audio))

    def read_many(
        self,
        rows: Sequence[int] | np.ndarray,
        *,
        shards: ShardCache | None = None,
        audio: bool | Sequence[records.Crop] = True,
    ) -> Iterator[records.Record]:
        """The clips at ``rows`` one after another, as ``read``; a remote data set is asked for all of them at once.

        Args:
          shards: where to read shards from, if not from the data set's folder.
          audio: False does not decode the sound; crops, one for each clip, decode a stretch of it.

        Raises:
          DataError: as ``read``, once the clip is reached.
        """
        blocks = None
        if self._remote and shards is None:
            blocks = records.fetch([self.frame(int(row)) for row in rows])
        for i, row in enumerate(rows):
            frame = self.frame(int(row), shards)
            block = blocks[i] if blocks else records.fetch([frame])[0]
            data = records.unpack(block, frame)
            decoded = records.decode(data, str(frame), audio if isinstance(audio, bool) else audio[i])
            listed = self._index.text("id", int(row))
            if decoded.id != listed:
                raise DataError(f"{frame} is clip {decoded.id}, but the index says {listed}")
            yield decoded

    def captions(self, rows: Sequence[int]) -> Iterator[tuple[str, ...]]:
        """Captions of the clips at ``rows``. Audio of a local data set is skipped, and its checksums with it.

        Raises:
          DataError: once a clip is reached that is not the one of the index.
        """
        return self._skim(rows, captions_of, lambda record: record.captions)

    def described(self, rows: Sequence[int]) -> Iterator[records.Record]:
        """The clips at ``rows`` but for their sound (None), read as ``captions`` are.

        Raises:
          DataError: as ``captions``.
        """
        return self._skim(rows, records.soundless, lambda record: record)

    def _skim(
        self, rows: Sequence[int], take: Callable[[Any], _T], of_record: Callable[[records.Record], _T]
    ) -> Iterator[_T]:
        """Something of the clips at ``rows``: taken from their features, or from records that were read whole."""
        if self._remote:
            for first in range(0, len(rows), _ASKED):
                yield from map(of_record, self.read_many(rows[first : first + _ASKED], audio=False))
            return
        for row, (frame, found) in zip(rows, skim(map(self.frame, map(int, rows)), take), strict=True):
            if found is None:
                yield of_record(self.read(int(row), audio=False))
                continue
            listed = self._index.text("id", int(row))
            if found[0] != listed:
                raise DataError(f"{frame} is clip {found[0]}, the index says {listed}")
            yield found[1]

    def frame(self, row: int, shards: ShardCache | None = None) -> records.Frame:
        """Location of the record of the clip at ``row``."""
        if not 0 <= row < self.num_clips:
            raise IndexError(f"row {row} of {self.num_clips}")
        number, record, offset, length = (int(self._index.values(name, (row,))[0]) for name in _PLACE)
        if not 0 <= number < len(self.info["shards"]):
            raise DataError(f"{self._file(self.info['index'])} is damaged: row {row} lies in shard {number}")
        path = shards.path(number) if shards else self._shard_files[number]
        return records.Frame(path, record, offset, length)

    def rows(self, split: str) -> np.ndarray:
        """Rows of the clips of one split that are in use, in stored order; int64[n]."""
        chosen = self.split == SPLITS.index(choose(split, SPLITS, "split"))
        used = np.array([not reason for reason in self.exclusions], bool)
        return np.flatnonzero(chosen & used[self.excluded])

    def ladder_rows(self, pairs: int = 0) -> np.ndarray:
        """Rows of the rung of ``pairs`` audio-caption pairs in ladder order (0: all training clips); int64[n].

        Raises:
          UserError: names ``data.pairs`` if the data set has fewer.
        """
        return ladder.rung(self.ladder, self.num_captions, pairs)

    def verify(self, progress=None) -> dict:
        """Reads every byte and checks SHA-256, both checksums of every record, and counts, places and ids by the index.

        Raises:
          DataError: names the first damaged shard and record, and says how many more shards are damaged.
        """
        for entry in (self.info["index"], self.info["audit"]):
            with storage.open_binary(self._file(entry)) as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
                    raise DataError(f"{self._file(entry)} is not the one that was built")
        problems = []
        bounds = self.shard_starts()
        for number, entry in enumerate(self.info["shards"]):
            try:
                self._verify_shard(entry, slice(int(bounds[number]), int(bounds[number + 1])))
            except DataError as error:
                problems.append(str(error))
            if progress:
                progress.update(entry["records"])
        if problems:
            more = f" (and {len(problems) - 1} more damaged files)" if len(problems) > 1 else ""
            raise DataError(problems[0] + more)
        shards = self.info["shards"]
        return {"clips": self.num_clips, "shards": len(shards), "bytes": sum(entry["bytes"] for entry in shards)}

    def _verify_shard(self, entry: dict, rows: slice) -> None:
        path = self._file(entry)
        offsets, lengths, ids = self._place[2][rows], self._place[3][rows], self.id[rows]
        remote = storage.is_remote(path)
        with io.BytesIO(storage.read(path)) if remote else storage.open_binary(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            count = 0
            for offset, data in records.scan(file, path, storage.size(path)):
                where = f"{path} record {count}"
                if count >= len(offsets) or (offset, len(data)) != (offsets[count], lengths[count]):
                    raise DataError(f"{where}: is not where the index says")
                decoded = records.decode(data, where)
                if decoded.id != ids[count].as_py():
                    raise DataError(f"{where} is clip {decoded.id}, but the index says {ids[count]}")
                count += 1
        if count != entry["records"]:
            raise DataError(f"{path} has {count} records, but dataset.json says {entry['records']}")
        if digest != entry["sha256"]:
            raise DataError(f"{path} is not the shard that was built (SHA-256 differs)")


def _read_info(path: storage.Location) -> dict:
    sizes = storage.sizes(path)
    if not sizes and not (not storage.is_remote(path) and path.is_dir()):
        raise UserError(f"data set {path} does not exist; 'alp data build' makes one")
    if INFO not in sizes:
        if PLAN in sizes:
            raise DataError(f"data set {path} is only half built; run the same 'alp data build' again to finish it")
        raise UserError(f"{path} is not a data set: it has no {INFO}")
    where = storage.join(path, INFO)
    try:
        info = json.loads(storage.read(where))
    except (OSError, ValueError) as error:
        raise UserError(f"data set description {where} is not readable JSON: {error}") from None
    if not isinstance(info, dict) or "checksum" not in info:
        raise DataError(f"{where} is not a data set description")
    if info["checksum"] != fingerprint({key: value for key, value in info.items() if key != "checksum"}):
        raise DataError(f"{where} was edited after the build; restore it or build the data set again")
    if info["schema_version"] != SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {info['schema_version']}, but this code reads {SCHEMA_VERSION}; build it again"
        )
    for entry in [*info["shards"], info["index"], info["audit"]]:
        file = storage.resolve(path, entry["name"])
        size = sizes[entry["name"]] if entry["name"] in sizes else storage.size(file)
        if size != entry["bytes"]:
            state = "is missing" if size < 0 else f"has {size} bytes, but {INFO} says {entry['bytes']}"
            raise DataError(f"{file} {state}; restore it or build the data set again")
    return info


def open_dataset(path: storage.Location) -> Dataset:
    """Opens a built data set after checking its description and the sizes of its files.

    Raises:
      UserError: there is no data set at ``path``.
      DataError: it is half built, edited, or files are missing or have another size.
    """
    return Dataset(path)
