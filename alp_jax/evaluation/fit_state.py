"""The state of a long fit on disk, so that a fit that was stopped goes on where it was and ends as it would have."""

import dataclasses
import os
import pathlib
import time
from typing import Any

import jax
import numpy as np

from alp_jax.core.hashing import fingerprint

EVERY_S = 300.0  # between two states


@dataclasses.dataclass(frozen=True)
class Saves:
    """Where the fits of one task keep their states.

    Attributes:
      folder: None keeps nothing.
      identity: what the fits depend on, as JSON; a fit of another identity finds nothing here.
    """

    folder: pathlib.Path | None = None
    identity: tuple = ()

    def of(self, *identity: Any) -> "Saves":
        """The same place for fits that also depend on ``identity``."""
        return Saves(self.folder, (*self.identity, *identity))

    def state(self) -> "FitState":
        """The state of the fit with this identity."""
        return FitState(None if self.folder is None else self.folder / f"{fingerprint(list(self.identity))}.npz")


class FitState:
    """One fit's file, written every ``EVERY_S`` seconds; the time of an instance runs from its creation."""

    def __init__(self, path: pathlib.Path | None):
        self.path, self._written = path, time.monotonic()

    def read(self, like: Any) -> Any:
        """The arrays of an earlier ``write``, placed as those of ``like``; None if there are none of these shapes."""
        if self.path is None or not self.path.exists():
            return None
        leaves, structure = jax.tree.flatten(like)
        with np.load(self.path) as stored:
            # By number: as text, 10 comes before 2.
            arrays = [stored[name] for name in sorted(stored.files, key=int)]
        if [array.shape for array in arrays] != [np.shape(leaf) for leaf in leaves]:
            return None
        placed = [
            jax.device_put(array, leaf.sharding) if isinstance(leaf, jax.Array) else array
            for leaf, array in zip(leaves, arrays, strict=True)
        ]
        return jax.tree.unflatten(structure, placed)

    def due(self) -> bool:
        """Whether it is time to write."""
        return self.path is not None and time.monotonic() - self._written >= EVERY_S

    def write(self, tree: Any) -> None:
        """Keeps the arrays of ``tree`` in place of earlier ones; the file is whole at all times."""
        assert self.path is not None, "there is no place for states"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, **{str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))})
            file.flush()
            os.fsync(file.fileno())
        # Only now, when every byte is on the disk: a kill before leaves the earlier state, which is whole.
        partial.replace(self.path)
        self._written = time.monotonic()
