"""Clips that no run trains on, for the loss that is measured on them while a run trains.

A recording is held out by the hash of its name, and all of its clips with it, whatever their source or rung. So rungs
stay nested, all runs on a data set are measured on the same clips, and no run has heard another part of them.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alp_jax.config.schema import DataConfig
from alp_jax.core.errors import UserError
from alp_jax.core.hashing import hash64
from alp_jax.data.order import mixture
from alp_jax.data.store.dataset import Dataset

_CHUNK = 1 << 18  # clips handled at a time
_RECORDING, _CLIP = 101, 102  # seeds of hashes


def is_held_out(dataset: Dataset, share: float) -> np.ndarray:
    """Which clips of the training split are held out, bool[N]: those of about ``share`` of its recordings."""
    held_N, limit = np.zeros(len(dataset), bool), int(share * 2**64)
    for start in range(0, len(dataset) if limit else 0, _CHUNK):
        row_N = start + np.flatnonzero(dataset.ladder[start : start + _CHUNK] >= 0)
        names = dataset.recording.take(pa.array(row_N)).to_pylist()
        held_N[row_N] = [hash64(_RECORDING, name) < limit for name in names]
        dataset.release()
    return held_N


class _Trainable:
    """A data set in whose ladder the clips that are held out have no rank."""

    def __init__(self, dataset: Dataset, share: float):
        self._dataset = dataset
        self.ladder = np.where(is_held_out(dataset, share), -1, dataset.ladder)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)


def trainable(dataset: Dataset, config: DataConfig) -> Dataset:
    """``dataset`` without what ``config.held_out`` holds out of training."""
    return _Trainable(dataset, config.held_out) if config.held_out else dataset  # type: ignore[return-value]


def validation_rows(dataset: Dataset, config: DataConfig, clips: int) -> dict[str, np.ndarray]:
    """At most ``clips`` clips to measure the loss on, evenly from the chosen sources: name -> rows, int64[n].

    They are of the validation split, and of the training split those that are held out. A clip of a recording that is
    trained on is left out. Which clips they are depends on their ids alone.

    Raises:
      UserError: there are none.
    """
    held_N = is_held_out(dataset, config.held_out)
    trained_N = (dataset.ladder >= 0) & ~held_N
    row_N = np.union1d(dataset.rows("valid"), np.flatnonzero(held_N))
    row_N = row_N[dataset.num_captions[row_N] > 0]
    recording_N = dataset.recording.take(pa.array(row_N))
    at_N = np.flatnonzero(pc.is_in(dataset.recording, value_set=pc.unique(recording_N)).to_numpy(zero_copy_only=False))
    heard = dataset.recording.take(pa.array(at_N[trained_N[at_N]]))
    row_N = row_N[~pc.is_in(recording_N, value_set=heard).to_numpy(zero_copy_only=False)]
    source_N, chosen = dataset.source[row_N], {}
    names = mixture.select(config.sources, dataset.sources)
    present = [name for name in names if (source_N == dataset.sources.index(name)).any()]
    if not present:
        raise UserError(
            f"config.train.validate_every: data set {dataset.path} has no clip to measure on that is not trained on: "
            "hold some out with --config.data.held_out=0.001, a share of its recordings"
        )
    for name in present:
        rows = row_N[source_N == dataset.sources.index(name)]
        order = np.argsort([hash64(_CLIP, text) for text in dataset.id.take(pa.array(rows)).to_pylist()])
        chosen[name] = rows[order[: max(1, clips // len(present))]]
    return chosen


def fixed_draws(clip: str) -> tuple[float, float]:
    """Numbers in [0, 1) that say where a clip is cropped and which of its captions is taken, always the same."""
    place, caption = (hash64(_CLIP + 1 + k, clip) / 2**64 for k in range(2))
    return min(place, 1 - 2**-53), min(caption, 1 - 2**-53)
