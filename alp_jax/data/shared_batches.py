"""Batches that processes fill together, in memory they share."""

import contextlib
import math
import mmap
import os
import time
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from alp_jax.core.errors import UserError

_ALIGNED = 64  # bytes; arrays that begin there can be put on devices without a copy
_RETRY_S = 0.001


class _Shapes(Protocol):
    def shape(self, step: int) -> tuple[int, int, int]: ...

    def blank(self, rows: int, samples: int, tokens: int) -> dict[str, np.ndarray]: ...


class SharedBatches:
    """A batch lies in a file without a name, which the system frees as soon as the last process lets go of it.

    So nothing is left behind, however processes end, and no limit of ``/dev/shm`` counts. Workers find the file of a
    step among the open files of this process, in one of a few ``slots`` in turn.

    Args:
      batches: what shapes they have.
      step: of the first batch that will be taken.
      slots: batches that can be filled at a time.

    Raises:
      UserError: the system has no such files.
    """

    def __init__(self, batches: _Shapes, step: int, slots: int):
        if not hasattr(os, "memfd_create"):
            raise UserError("data.workers needs Linux; 0 reads in threads")
        self._batches, self._process = batches, os.getpid()
        self._slots: list[int] = []
        self._opened: dict[int, tuple[int, int]] = {}  # slot -> (step, descriptor), in a worker
        order = {later % slots: later for later in range(step, step + slots)}
        self._slots = [os.memfd_create(_name(order[slot])) for slot in range(slots)]

    def _places(self, step: int) -> tuple[int, dict[str, tuple[int, np.dtype, tuple[int, ...]]]]:
        """Bytes of a batch; and of each of its arrays the byte where it begins, its type and its shape."""
        rows, *widths = self._batches.shape(step)
        at, places = 0, {}
        for name, array in self._batches.blank(0, *widths).items():
            at = -(-at // _ALIGNED) * _ALIGNED
            places[name] = at, array.dtype, (rows, *array.shape[1:])
            at += rows * math.prod(array.shape[1:]) * array.itemsize
        return at, places

    @contextlib.contextmanager
    def rows(self, step: int, first: int, last: int) -> Iterator[dict[str, np.ndarray]]:
        """Blank rows of a batch, which are in it at the end of the context; for workers."""
        batch = self._batches.blank(last - first, *self._batches.shape(step)[1:])
        yield batch
        # Written only now: until the slot is free, its file is that of an earlier batch. Rows of different workers are
        # different bytes, so nothing has to be locked.
        descriptor = self._descriptor(step)
        for name, (at, _, shape) in self._places(step)[1].items():
            array = batch[name]
            _write(descriptor, array, at + first * math.prod(shape[1:]) * array.itemsize)

    def _descriptor(self, step: int) -> int:
        slot = step % len(self._slots)
        known, descriptor = self._opened.get(slot, (-1, -1))
        while known != step:
            if descriptor >= 0:
                os.close(descriptor)
                del self._opened[slot]
            descriptor = os.open(f"/proc/{self._process}/fd/{self._slots[slot]}", os.O_RDWR)
            if os.readlink(f"/proc/self/fd/{descriptor}") == f"/memfd:{_name(step)} (deleted)":
                known = step
            else:  # an earlier batch has not been taken yet
                time.sleep(_RETRY_S)
            self._opened[slot] = known, descriptor
        return descriptor

    def finished(self, step: int) -> dict[str, np.ndarray]:
        """The batch of a step whose rows are all there; its memory lasts as long as any of its arrays."""
        size, places = self._places(step)
        slot = self._slots[step % len(self._slots)]
        # The order is what workers rely on. Mapped first, this batch outlives its descriptor. Then ``dup2`` replaces
        # the file under that number in one step: a worker that opens it sees the old batch or the new one, and tells by
        # its name.
        memory = mmap.mmap(slot, size)
        later = os.memfd_create(_name(step + len(self._slots)))
        os.dup2(later, slot, inheritable=False)
        os.close(later)
        return {
            name: np.frombuffer(memory, dtype, math.prod(shape), at).reshape(shape)
            for name, (at, dtype, shape) in places.items()
        }

    def close(self) -> None:
        """Lets go of the batches that were not taken."""
        for descriptor in self._slots:
            os.close(descriptor)
        self._slots = []


def _name(step: int) -> str:
    return f"alp_jax batch {step}"


def _write(descriptor: int, array: np.ndarray, at: int) -> None:
    data = memoryview(array).cast("B")
    while data:
        written = os.pwrite(descriptor, data, at)
        data, at = data[written:], at + written
