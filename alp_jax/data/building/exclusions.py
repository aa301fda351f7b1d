"""Clips that stay stored and are not used: marked in the index, without touching a shard."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from alp_jax.core import storage
from alp_jax.core.errors import UserError
from alp_jax.data.building import account, tables
from alp_jax.data.store import ladder
from alp_jax.data.store.dataset import open_dataset


def apply(folder: storage.Location, rows: np.ndarray, reasons: Sequence[str], *, replace: str = "") -> dict:
    """Excludes clips of the data set ``folder``; returns its accounting. The fingerprint of the data set changes.

    The new index is a new file, and one write of ``dataset.json`` puts it in place of the old one, so the data set is
    whole at any moment. The old index stays until the next call, for whoever has opened the data set before.

    Args:
      rows: int64[n], rows of the index.
      reasons: why, one for each row. A clip that is excluded already keeps its reason.
      replace: takes back first what was excluded for reasons that start with this, such as ``leak:``; "" takes
        nothing back.

    Raises:
      UserError: rows that the data set does not have, or a row without a reason.
      DataError: the data set is damaged.
      StorageError: it cannot be written.
    """
    rows = np.asarray(rows, np.int64)
    info = open_dataset(folder).info
    index = tables.read_table(folder, info["index"])
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(index):
        raise UserError(f"{folder} has {len(index)} clips; rows {rows.min()} to {rows.max()} were to be excluded")
    if len(reasons) != len(rows) or not all(reasons):
        raise UserError(f"exclusions from {folder}: every row needs a reason")
    index = tables.replaced(index, "excluded", _marked(index["excluded"], rows, reasons, replace))
    place = tables.read_table(folder, info["audit"], ["place"])["place"].to_numpy()
    index = tables.with_ladder(index, ladder.order(place, lambda row: index["id"][row].as_py()))
    content = tables.content_fingerprint(info["shards"], index["excluded"])
    if content == info["fingerprint"]:
        return info["accounting"]
    accounting = account.in_use(info["accounting"], index)
    entry = tables.write_index(folder, index, f"index-{content}.arrow")
    tables.write_info(folder, info | {"index": entry, "fingerprint": content, "accounting": accounting})
    for name in storage.names(folder):
        if name.startswith("index") and name.endswith(".arrow") and name not in (entry["name"], info["index"]["name"]):
            storage.remove(storage.join(folder, name))
    return accounting


def _marked(column: pa.ChunkedArray, rows: np.ndarray, reasons: Sequence[str], replace: str) -> pa.DictionaryArray:
    """The new column ``excluded``."""
    column = column.combine_chunks()
    old = column.dictionary.to_pylist()
    kept = [tables.IN_USE if replace and name.startswith(replace) else name for name in old]
    names = sorted({tables.IN_USE, *kept, *reasons})
    number = {name: code for code, name in enumerate(names)}
    codes = np.array([number[name] for name in kept], np.int64)[column.indices.to_numpy()]
    free = codes[rows] == number[tables.IN_USE]
    codes[rows[free]] = np.array([number[reason] for reason in reasons], np.int64)[free]
    return tables.exclusions(names, codes)
