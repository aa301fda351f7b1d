"""How far a host reads ahead: threads or processes, and bytes."""

import dataclasses

from alp_jax.config.schema import DataConfig
from alp_jax.core.cores import usable_cores
from alp_jax.core.errors import UserError

QUEUED = 2  # parts that wait between a worker and the process that trains
_BATCHES = 4  # ready ahead, if memory allows
THREADS = 8  # that read; about a tenth of their work is Python, which threads do one at a time
_PART_BYTES = 10**6  # of neighbouring rows, which are read at one go


@dataclasses.dataclass(frozen=True)
class ReadAhead:
    """How far a host reads ahead.

    Attributes:
      threads: that read, without ``data.workers``.
      parts: that a batch is read in.
      begun: parts that may be read before all earlier ones are gathered.
      batches: complete ones, or being completed, besides that which was handed out.
      batch_bytes: of the largest batch.
    """

    threads: int
    parts: int
    begun: int
    batches: int
    batch_bytes: int

    @property
    def bytes(self) -> int:
        """What is read ahead at most, without the batch that was handed out."""
        return self.batch_bytes * (self.batches * self.parts + self.begun) // self.parts


def read_ahead(config: DataConfig, batch_bytes: int, rows: int) -> ReadAhead:
    """How far a host reads ahead within ``data.prefetch_mb``, with batches of at most these many bytes and rows.

    Raises:
      UserError: names the setting if there is no room for one batch.
    """
    parts = min(rows, -(-batch_bytes // _PART_BYTES))
    threads = 0 if config.workers else min(THREADS, len(usable_cores()))
    # grain keeps as many on both sides of a worker's queue, and holds three more: made, sent, handed over
    begun = (2 * QUEUED + 3) * config.workers or 2 * threads
    least = ReadAhead(threads, parts, begun, 1, batch_bytes)
    room = config.prefetch_mb * 10**6 - least.bytes
    if room < 0:
        readers = f"data.workers = {config.workers}" if config.workers else f"{threads} threads"
        raise UserError(
            f"data.prefetch_mb = {config.prefetch_mb}: {-(-least.bytes // 10**6)} are needed for a batch of "
            f"{batch_bytes / 1e6:.1f} MB and {readers}"
        )
    return dataclasses.replace(least, batches=min(_BATCHES, 1 + room // batch_bytes))
