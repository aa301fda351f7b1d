"""A few clips to try a model on: from a data set of any size, or synthetic where there is none."""

import numpy as np

from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.data.store.dataset import Dataset

_SPLITS = {"test": "test", "valid": "validation", "train": "training"}
_MADE_SECONDS = (0.5, 10.0)


def sample_clips(dataset: Dataset, count: int, max_seconds: float) -> tuple[list[np.ndarray], str]:
    """Up to ``count`` clips spread evenly over the lengths in a data set, and a description of them.

    They are test clips; if there are none, validation clips; if there are none either, training clips.

    Returns:
      int16 audio, each at most ``max_seconds``, and a text such as ``test clips of data/mini``.
    """
    split = next(split for split in _SPLITS if len(dataset.rows(split)) or split == "train")
    rows = dataset.rows(split)
    if not len(rows):
        return made_clips(count, max_seconds)
    rows = rows[np.argsort(dataset.num_samples[rows], kind="stable")]
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int))]
    clips = [dataset.read(int(row)).audio[: int(max_seconds * SAMPLE_RATE)] for row in chosen]
    return clips, f"{_SPLITS[split]} clips of {dataset.path}"


def made_clips(count: int, max_seconds: float) -> tuple[list[np.ndarray], str]:
    """Synthetic clips, returned as ``sample_clips`` does: tones in noise, always the same, from short to long."""
    rng = np.random.default_rng(0)
    clips = []
    for seconds in np.geomspace(*np.minimum(_MADE_SECONDS, max_seconds), count):
        t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        wave = 0.3 * np.sin(2 * np.pi * rng.uniform(80, 4000) * t) + 0.05 * rng.standard_normal(len(t))
        clips.append((wave * 32767).astype(np.int16))
    return clips, "made-up clips"
