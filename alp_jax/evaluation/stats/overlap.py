"""How much of a test set the encoder was trained on: the share of test clips that are in its training rung.

A rung is the subset of a data set that a run trains on; see ``data.order.subset``.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from alp_jax.config.schema import DataConfig
from alp_jax.core.errors import AlpError
from alp_jax.data.audit import columns
from alp_jax.data.audit.audit import compare
from alp_jax.data.audit.sets import of_rows
from alp_jax.data.order.subset import open_rung
from alp_jax.data.store.dataset import Dataset, open_dataset

ANY = "any"
UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True)
class Trained:
    """The data a run was trained on: its settings, and the fingerprint that the data set had then."""

    data: DataConfig
    fingerprint: str


def shares(trained: Trained | None, dataset: Dataset, tests: Mapping[str, np.ndarray]) -> dict[str, dict]:
    """For every task of ``tests`` (rows of ``dataset``), the share of its clips that are in the training rung.

    The clips of all tasks are compared once, as in ``alp data audit``. If training started from a pretrained encoder,
    the clips which that encoder had seen do not count.

    Returns:
      task -> {"recording", "audio", "near", "caption", "any"}, shares from 0 to 1, or {"unknown": why}.
    """
    if trained is None:
        return {name: {UNKNOWN: "it is not known what the encoder was trained on"} for name in tests}
    rows = np.unique(np.concatenate(list(tests.values())))
    try:
        seen = _seen(trained, dataset, rows)
    except AlpError as error:
        why = f"not known, because the data the run was trained on cannot be read: {error}"
        return {name: {UNKNOWN: why} for name in tests}
    if seen is None:
        why = f"{trained.data.path} is no longer what the run was trained on: clips were excluded or it was rebuilt"
        return {name: {UNKNOWN: why} for name in tests}
    return {
        name: {kind: float(np.mean(is_seen[np.searchsorted(rows, test)])) for kind, is_seen in seen.items()}
        for name, test in tests.items()
    }


def _seen(trained: Trained, dataset: Dataset, rows: np.ndarray) -> dict[str, np.ndarray] | None:
    """Kind of match -> bool for each of ``rows``; None if the training data has changed since."""
    train = dataset if str(trained.data.path) == str(dataset.path) else open_dataset(trained.data.path)
    if train.fingerprint != trained.fingerprint:
        return None
    one_width = dataclasses.replace(trained.data, text_widths=())  # the clips are the same
    rung = open_rung(train, one_width)
    blocks = columns.of_dataset(train, np.sort(np.concatenate([*rung.rows.values()])).astype(np.int64))
    comparison = compare(blocks, [of_rows("test", dataset, rows)], total=len(rung), label="overlap")
    return dict(comparison.seen) | {ANY: np.any(list(comparison.seen.values()), axis=0)}
