"""The tables of a data set and ``dataset.json``: put together from finished shards, and written so that a stop at any
moment leaves the data set either as it was or as it will be."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import soundfile
import soxr

from alp_jax.core import files, storage
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import DataError, UserError
from alp_jax.core.hashing import fingerprint
from alp_jax.core.paths import cache_dir
from alp_jax.data.audio.decoders import ffmpeg
from alp_jax.data.building import account, shard
from alp_jax.data.store import ladder
from alp_jax.data.store.dataset import open_dataset
from alp_jax.data.store.mapped import write_table
from alp_jax.data.store.schema import AUDIT, AUDIT_SCHEMA, ELASTIC, INDEX, INDEX_SCHEMA, INFO, SCHEMA_VERSION

IN_USE = ""


@dataclasses.dataclass(frozen=True)
class Collected:
    """Finished shards.

    Attributes:
      clips: ``shard.INDEX_COLUMNS``, ``shard`` and ``row`` of every clip.
      failures: ``account.FAILURES``.
      shards: their entries in ``dataset.json``.
    """

    clips: pa.Table
    failures: pa.Table
    shards: list[dict]


def collect(paths: Sequence[storage.Location]) -> Collected:
    """Reads the indices of finished shards, one after another; no clip becomes a Python object.

    Raises:
      DataError: an index has disappeared.
    """
    tables, failures, entries = [], [], []
    for number, path in enumerate(paths):
        index = shard.read_index(path)
        if index is None:
            raise DataError(f"{shard.index_path(path)} is missing or damaged; run the same 'alp data build' again")
        table, meta = index
        position = {"shard": np.full(len(table), number, np.int32), "row": np.arange(len(table), dtype=np.int32)}
        for name, values in position.items():
            table = table.append_column(name, pa.array(values))
        tables.append(table.replace_schema_metadata(None))
        rows = [dict(zip(account.FAILURES.names, failure, strict=False)) for failure in meta["failures"]]
        failures.append(pa.Table.from_pylist(rows, schema=account.FAILURES))
        entries.append({key: meta[key] for key in ("name", "records", "bytes", "sha256")})
    return Collected(pa.concat_tables(tables), pa.concat_tables(failures), entries)


def exclusions(reasons: Sequence[str], code_N: np.ndarray) -> pa.DictionaryArray:
    """The column ``excluded`` from the code of every row's reason; its dictionary is sorted, with "" first."""
    names = sorted({IN_USE, *(reasons[code] for code in np.unique(code_N))})
    number = [names.index(reason) if reason in names else -1 for reason in reasons]
    codes = np.array(number, np.int8)[code_N]
    return pa.DictionaryArray.from_arrays(pa.array(codes), names).cast(INDEX_SCHEMA.field("excluded").type)


def named(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """Whether each row of a dictionary column is ``name``; bool[N]."""
    column = column.combine_chunks()
    known = column.dictionary.to_pylist()
    return column.indices.to_numpy() == (known.index(name) if name in known else -1)


def in_ladder(index: pa.Table) -> np.ndarray:
    """Which rows belong to the ladder: training clips with captions that are in use; bool[N]."""
    return named(index["split"], "train") & named(index["excluded"], IN_USE) & (index["num_captions"].to_numpy() > 0)


def with_ladder(index: pa.Table, order_N: np.ndarray) -> pa.Table:
    """``index`` with the column ``ladder`` recomputed along the ladder order of all rows."""
    ranks = pa.array(ladder.ranks_along(order_N, in_ladder(index)))
    return replaced(index, "ladder", ranks) if "ladder" in index.column_names else index.append_column("ladder", ranks)


def replaced(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    """``table`` with another column ``name``."""
    return table.set_column(table.schema.get_field_index(name), name, column)


def richest_first(order: np.ndarray, num_captions: np.ndarray) -> np.ndarray:
    """``order`` int64[N] of rows, those with most captions first, so that dropping equal sounds loses the fewest."""
    return order[np.argsort(-num_captions[order].astype(np.int64), kind="stable")]


def repeats(key_N: np.ndarray, order_N: np.ndarray, among_N: np.ndarray) -> np.ndarray:
    """Which of the rows ``among_N`` (bool) have the same key as one that precedes them in ``order_N``; bool[N]."""
    rows = order_N[among_N[order_N]]
    key = key_N[rows]
    by_key = np.argsort(key, kind="stable")
    again = np.zeros(len(key_N), bool)
    again[rows[by_key[1:]][key[by_key[1:]] == key[by_key[:-1]]]] = True
    return again


def scoped(key_N: np.ndarray, source_N: np.ndarray, dedupe: str) -> np.ndarray:
    """Keys uint64[N] that are equal within what ``dedupe`` (source or all) compares."""
    if dedupe == "all":
        return key_N
    salt = np.array([int(fingerprint(code), 16) for code in range(int(source_N.max(initial=0)) + 1)], np.uint64)
    return key_N ^ salt[source_N]


def content_fingerprint(shards: Sequence[dict], excluded: pa.ChunkedArray) -> str:
    """Identity of the data; changes with a stored byte, the excluded clips, their reasons and the schema version."""
    column = excluded.combine_chunks()
    numbers, reasons = column.indices.to_numpy(), column.dictionary.to_pylist()
    out = {}
    for code, reason in enumerate(reasons):
        rows = np.flatnonzero(numbers == code).astype("<i8")
        if reason != IN_USE and len(rows):
            out[reason] = hashlib.blake2b(rows.tobytes(), digest_size=16).hexdigest()
    return fingerprint([SCHEMA_VERSION, ladder.SEED, [entry["sha256"] for entry in shards], out])


def facts() -> dict:
    """What every ``dataset.json`` says about the code that made the data set."""
    return {
        "schema_version": SCHEMA_VERSION,
        "sample_rate": SAMPLE_RATE,
        "ladder_seed": ladder.SEED,
        "resampler": "soxr HQ",
        "versions": {
            "soundfile": soundfile.__version__,
            "libsndfile": soundfile.__libsndfile_version__,
            "av": ffmpeg.VERSION,
            "soxr": soxr.__version__,
            "numpy": np.__version__,
            "pyarrow": pa.__version__,
        },
    }


def write_index(folder: storage.Location, index: pa.Table, name: str = INDEX) -> dict:
    """Writes the index table; returns its entry for ``dataset.json``."""
    write_table(storage.join(folder, name), index.select(INDEX_SCHEMA.names).cast(INDEX_SCHEMA))
    return file_entry(folder, name)


def write_audit(folder: storage.Location, clips: pa.Table) -> dict:
    """Writes the audit table, one record batch per chunk of ``clips``; returns its entry for ``dataset.json``."""
    with storage.partial(storage.join(folder, AUDIT)) as partial, pa.ipc.new_file(str(partial), AUDIT_SCHEMA) as file:
        if ELASTIC not in clips.column_names:  # a merge of data sets that were built before there was this column
            clips = clips.append_column(ELASTIC, pa.nulls(len(clips), AUDIT_SCHEMA.field(ELASTIC).type))
        file.write_table(clips.select(AUDIT_SCHEMA.names).cast(AUDIT_SCHEMA))
    return file_entry(folder, AUDIT)


def file_entry(folder: storage.Location, name: str) -> dict:
    """Name, bytes and SHA-256 of a file, which is read once, as ``dataset.json`` lists it.

    Raises:
      OSError: it cannot be read.
    """
    path = storage.join(folder, name)
    with storage.open_binary(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": name, "bytes": storage.size(path), "sha256": digest}


def read_table(folder: storage.Location, entry: Mapping, columns: Sequence[str] | None = None) -> pa.Table:
    """A table of a data set by its entry in ``dataset.json``, mapped to memory; ``columns`` None: all.

    Raises:
      DataError: it is not the table that was written.
    """
    path = storage.resolve(folder, entry["name"])
    try:
        local = storage.local_copy(path, cache_dir() / "indexes", f"{entry['sha256']}.arrow")
        with open(local, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
                raise DataError(f"{path} is not the table that was built; restore it or build the data set again")
        table = pa.ipc.open_file(pa.memory_map(str(local))).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    return table.select(list(columns)) if columns else table


def read_json(folder: storage.Location, name: str) -> dict:
    """Reads a JSON object from the folder; UserError if the file is not one."""
    path = storage.join(folder, name)
    try:
        content = json.loads(storage.read(path))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not readable JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object")
    return content


def write_info(folder: storage.Location, info: dict) -> None:
    """Writes ``dataset.json``: from then on the data set is what ``info`` says."""
    info = {key: value for key, value in info.items() if key != "checksum"}
    storage.write(storage.join(folder, INFO), files.json_text(info | {"checksum": fingerprint(info)}).encode())


def exclude(folder: storage.Location, rows: np.ndarray, reasons: Sequence[str], *, replace: str = "") -> dict:
    """Excludes clips of the data set ``folder``; returns its accounting. The fingerprint of the data set changes.

    The new index is a new file, and one write of ``dataset.json`` puts it in place of the old one, so the data set is
    consistent at any moment. The old index stays until the next call, for processes that already have the data set
    open.

    Args:
      rows: int64[n], rows of the index.
      reasons: why, one for each row. A clip that is already excluded keeps its reason.
      replace: first takes back what was excluded for reasons that start with this, such as ``leak:``; "" takes
        nothing back.

    Raises:
      UserError: rows that the data set does not have, or a row without a reason.
      DataError: the data set is damaged.
      StorageError: it cannot be written.
    """
    rows = np.asarray(rows, np.int64)
    info = open_dataset(folder).info
    index = read_table(folder, info["index"])
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(index):
        raise UserError(f"{folder} has {len(index)} clips; rows {rows.min()} to {rows.max()} were to be excluded")
    if len(reasons) != len(rows) or not all(reasons):
        raise UserError(f"exclusions from {folder}: every row needs a reason")
    index = replaced(index, "excluded", _marked(index["excluded"], rows, reasons, replace))
    place = read_table(folder, info["audit"], ["place"])["place"].to_numpy()
    index = with_ladder(index, ladder.order(place, lambda row: index["id"][row].as_py()))
    content = content_fingerprint(info["shards"], index["excluded"])
    if content == info["fingerprint"]:
        return info["accounting"]
    accounting = account.in_use(info["accounting"], index)
    entry = write_index(folder, index, f"index-{content}.arrow")  # a new name: readers keep the old file open
    write_info(folder, info | {"index": entry, "fingerprint": content, "accounting": accounting})
    for name in storage.names(folder):
        if name.startswith("index") and name.endswith(".arrow") and name not in (entry["name"], info["index"]["name"]):
            storage.remove(storage.join(folder, name))
    return accounting


def _marked(column: pa.ChunkedArray, rows: np.ndarray, reasons: Sequence[str], replace: str) -> pa.DictionaryArray:
    column = column.combine_chunks()
    old = column.dictionary.to_pylist()
    kept = [IN_USE if replace and name.startswith(replace) else name for name in old]
    names = sorted({IN_USE, *kept, *reasons})
    number = {name: code for code, name in enumerate(names)}
    codes = np.array([number[name] for name in kept], np.int64)[column.indices.to_numpy()]
    free = codes[rows] == number[IN_USE]
    codes[rows[free]] = np.array([number[reason] for reason in reasons], np.int64)[free]
    return exclusions(names, codes)
