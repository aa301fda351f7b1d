"""A self-test on a data set's own records: does reading notice when a single byte has changed?"""

import numpy as np

from alp_jax.core.errors import DataError
from alp_jax.core.progress import Progress
from alp_jax.data.store import records
from alp_jax.data.store.dataset import Dataset


def flips(dataset: Dataset, count: int, seed: int = 0) -> dict[str, int]:
    """Changes ``count`` bytes of the shards, one at a time and in memory only, and reads the record around each.

    Positions are drawn uniformly from all bytes of all shards, lengths and checksums included, and so are the new
    values. The shards themselves are not changed.

    Returns:
      ``flips``, ``noticed`` and ``records`` (how many different ones were hit).

    Raises:
      DataError: a record was damaged beforehand.
    """
    lengths = dataset.column("length").astype(np.int64) + records.HEADER + records.FOOTER
    ends = np.cumsum(lengths)
    rng = np.random.default_rng(seed)
    offsets = np.sort(rng.integers(0, ends[-1], count))
    changes = rng.integers(1, 256, count)
    rows = np.searchsorted(ends, offsets, side="right")
    noticed, held = 0, (-1, b"", None)
    with Progress("flip bytes", count, "flips") as progress:
        for row, offset, change in zip(rows.tolist(), offsets.tolist(), changes.tolist(), strict=True):
            if row != held[0]:
                frame = dataset.frame(row)
                (block,) = records.fetch([frame])
                records.unpack(block, frame)
                held = (row, block, frame)
            _, block, frame = held
            damaged = bytearray(b"".join(block))
            damaged[offset - int(ends[row] - lengths[row])] ^= change
            try:
                records.unpack(records.as_frame_bytes(bytes(damaged)), frame)
            except DataError:
                noticed += 1
            progress.update()
    return {"flips": count, "noticed": noticed, "records": len(np.unique(rows))}
