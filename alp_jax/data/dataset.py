"""A built data set: a memory-mapped index, records read by row with their checksums, and the ladder.

Opening costs a few file sizes and one memory map whatever the number of clips. A ``Dataset`` travels to other
processes as its path alone and holds no open files, so nothing is shared across fork or spawn.
"""

import functools
import os
import pathlib

import numpy as np
import pyarrow as pa

from alp_jax.core import files
from alp_jax.core.clip import SPLITS
from alp_jax.core.errors import DataError, UserError
from alp_jax.core.hashing import fingerprint
from alp_jax.core.names import choose
from alp_jax.data import example, ladder, tfrecord
from alp_jax.data.building import shard
from alp_jax.data.mapped import MappedTable
from alp_jax.data.schema import INFO, PLAN, SCHEMA_VERSION


class Dataset:
    """See ``open_dataset``. Columns are numpy views into the memory-mapped index, one entry per clip.

    Attributes:
      path: folder of the data set.
      info: content of ``dataset.json``.
      fingerprint: identity of the stored clips.
      num_clips: number of clips N.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self.info = _read_info(self.path)
        self.fingerprint: str = self.info["fingerprint"]
        self.num_clips: int = self.info["num_clips"]

    def __getstate__(self):
        return {"path": self.path, "info": self.info, "fingerprint": self.fingerprint, "num_clips": self.num_clips}

    def __len__(self) -> int:
        return self.num_clips

    def __repr__(self) -> str:
        return f"Dataset({str(self.path)!r}, clips={self.num_clips}, fingerprint={self.fingerprint})"

    @functools.cached_property
    def _index(self) -> MappedTable:
        path = self.path / self.info["index"]["name"]
        mapped = MappedTable(path)
        if len(mapped.table) != self.num_clips:
            raise DataError(f"{path} has {len(mapped.table)} rows, dataset.json says {self.num_clips}")
        return mapped

    def release(self) -> None:
        """Gives back the memory that shows pages of the index; what was read stays valid."""
        if "_index" in vars(self):
            self._index.release()

    def _names(self, name: str) -> tuple[str, ...]:
        return tuple(self._index.column(name).dictionary.to_pylist())

    @functools.cached_property
    def num_samples(self) -> np.ndarray:
        """int32[N], samples at 16 kHz."""
        return self._index.numpy("num_samples")

    @functools.cached_property
    def num_captions(self) -> np.ndarray:
        """uint16[N]."""
        return self._index.numpy("num_captions")

    @functools.cached_property
    def ladder(self) -> np.ndarray:
        """int32[N], rank among the training clips with captions that are in use; -1 outside."""
        return self._index.numpy("ladder")

    @functools.cached_property
    def source(self) -> np.ndarray:
        """int32[N], index into ``sources``."""
        return self._index.numpy("source")

    @functools.cached_property
    def sources(self) -> tuple[str, ...]:
        return self._names("source")

    @functools.cached_property
    def split(self) -> np.ndarray:
        """int8[N], index into ``alp_jax.core.clip.SPLITS``."""
        codes = np.array([SPLITS.index(name) for name in self._names("split")], np.int8)
        return codes[self._index.numpy("split")]

    @functools.cached_property
    def excluded(self) -> np.ndarray:
        """int8[N], index into ``exclusions``."""
        return self._index.numpy("excluded")

    @functools.cached_property
    def exclusions(self) -> tuple[str, ...]:
        """Reasons why clips are not used; "" is that of the clips in use."""
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
        return tuple(self._index.numpy(name) for name in ("shard", "row", "offset", "length"))

    def shard_starts(self) -> np.ndarray:
        """First row of every shard, and the number of clips; int64[shards + 1]."""
        return np.searchsorted(self._place[0], np.arange(len(self.info["shards"]) + 1))

    def read(self, row: int, audio: bool = True) -> example.Record:
        """The clip at ``row``, its checksums verified; ``audio=False`` leaves the sound undecoded (None).

        Raises:
          DataError: naming shard and record when anything does not fit.
        """
        if not 0 <= row < self.num_clips:
            raise IndexError(f"row {row} of {self.num_clips}")
        number, record, offset, length = (int(column[row]) for column in self._place)
        path = self.path / self.info["shards"][number]["name"]
        found = example.decode(tfrecord.read_at(path, offset, length, record), f"{path} record {record}", audio)
        if found.id != self.id[row].as_py():
            raise DataError(f"{path} record {record} is clip {found.id}, the index says {self.id[row]}")
        return found

    def rows(self, split: str) -> np.ndarray:
        """Rows of one split that are in use, in stored order; int64[n]."""
        chosen = self.split == SPLITS.index(choose(split, SPLITS, "split"))
        used = np.array([not reason for reason in self.exclusions], bool)
        return np.flatnonzero(chosen & used[self.excluded])

    def ladder_rows(self, pairs: int = 0) -> np.ndarray:
        """Rows of the rung of ``pairs`` audio-caption pairs in ladder order (0: all training clips); int64[n].

        Raises:
          UserError: naming ``data.pairs`` when the set has fewer.
        """
        return ladder.rung(self.ladder, self.num_captions, pairs)

    def verify(self, progress=None) -> dict:
        """Reads every byte: sizes, SHA-256, both checksums of every record, counts and ids against the index.

        Raises:
          DataError: naming the first damaged shard and record, and how many more shards are damaged.
        """
        problems = []
        for entry in (self.info["index"], self.info["audit"]):
            if files.sha256(self.path / entry["name"]) != entry["sha256"]:
                problems.append(f"{self.path / entry['name']} is not the one that was built")
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
        path = self.path / entry["name"]
        offsets, lengths, ids = self._place[2][rows], self._place[3][rows], self.id[rows]
        with open(path, "rb") as file:
            count = 0
            for offset, data in tfrecord.scan(file, str(path), path.stat().st_size):
                where = f"{path} record {count}"
                if count >= len(offsets) or (offset, len(data)) != (offsets[count], lengths[count]):
                    raise DataError(f"{where}: is not where the index says")
                found = example.decode(data, where)
                if found.id != ids[count].as_py():
                    raise DataError(f"{where} is clip {found.id}, the index says {ids[count]}")
                count += 1
        if count != entry["records"]:
            raise DataError(f"{path} has {count} records, dataset.json says {entry['records']}")
        if files.sha256(path) != entry["sha256"]:
            raise DataError(f"{path} is not the shard that was built (SHA-256 differs)")


def _read_info(path: pathlib.Path) -> dict:
    if not path.is_dir():
        raise UserError(f"data set {path} does not exist; 'alp data build' makes one")
    if not (path / INFO).exists():
        if (path / PLAN).exists():
            raise DataError(f"data set {path} is only half built; run the same 'alp data build' again to finish it")
        raise UserError(f"{path} is not a data set: it has no {INFO}")
    info = files.read_json(path / INFO, "data set description")
    if not isinstance(info, dict) or "checksum" not in info:
        raise DataError(f"{path / INFO} is not a data set description")
    if info["checksum"] != fingerprint({key: value for key, value in info.items() if key != "checksum"}):
        raise DataError(f"{path / INFO} was edited after the build; restore it or build the data set again")
    if info["schema_version"] != SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {info['schema_version']}, this code reads {SCHEMA_VERSION}; build it again"
        )
    for entry in [*info["shards"], info["index"], info["audit"]]:
        size = shard.file_bytes(path / entry["name"])
        if size != entry["bytes"]:
            state = "is missing" if size < 0 else f"has {size} bytes, {INFO} says {entry['bytes']}"
            raise DataError(f"{path / entry['name']} {state}; restore it or build the data set again")
    return info


def open_dataset(path: str | os.PathLike) -> Dataset:
    """Opens a built data set after checking its description and the sizes of its files.

    Raises:
      UserError: there is no data set at ``path``.
      DataError: it is half built, edited, or files are missing or have another size.
    """
    return Dataset(path)
