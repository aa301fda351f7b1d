"""What the paper (arXiv 2511.16757) reports for its own encoders on the full CaptionStew, to print beside our results.

Values are shares of 1, as in our results; the paper prints most of them in percent.
"""

from collections.abc import Iterable
from typing import NamedTuple

from alp_jax.core.run_files import ATTENTION, CAPTIONING, DETECTION, FRAMES, MEAN, RETRIEVAL

ROWS = (
    "supervised",
    "contrastive, scratch",
    "captioning, scratch",
    "contrastive, supervised start",
    "captioning, supervised start",
)


class Published(NamedTuple):
    """One column of a table: its metric, and a value for every one of ``ROWS`` (None if the paper gives none)."""

    metric: str
    values: tuple[float | None, ...]


def _percent(metric: str, *values: float | None) -> Published:
    return Published(metric, tuple(None if value is None else round(value / 100, 6) for value in values))


TABLES: dict[tuple[str, str], Published] = {
    ("fsd50k", MEAN): Published("map", (0.656, 0.625, 0.580, 0.664, 0.652)),
    ("vggsound", MEAN): _percent("accuracy", 56.46, 50.87, 47.79, 54.70, 53.13),
    ("voxceleb2", MEAN): _percent("accuracy", 18.84, 46.67, 33.43, 38.17, 26.23),
    ("crema_d", MEAN): _percent("accuracy", 67.14, 67.71, 63.60, 68.84, 65.86),
    ("magnatagatune", MEAN): Published("map", (0.407, 0.406, 0.401, 0.406, 0.410)),
    ("nsynth_instrument", MEAN): _percent("accuracy", 67.19, 67.30, 63.10, 69.38, 67.16),
    (DETECTION, FRAMES): Published("psds1", (0.216, 0.132, 0.124, 0.187, 0.145)),
    ("fsd50k", ATTENTION): Published("map", (None, 0.640, 0.619, 0.670, None)),
    ("vggsound", ATTENTION): _percent("accuracy", None, 52.81, 50.97, 54.89, None),
    ("voxceleb2", ATTENTION): _percent("accuracy", None, 72.86, 56.64, 72.24, None),
    ("crema_d", ATTENTION): _percent("accuracy", None, 74.50, 70.40, 73.09, None),
    ("magnatagatune", ATTENTION): Published("map", (None, 0.406, 0.406, 0.412, None)),
    ("nsynth_instrument", ATTENTION): _percent("accuracy", None, 75.00, 72.10, 76.70, None),
}
PAPER_TASKS = (*dict.fromkeys(task for task, _ in TABLES), "voxceleb1", *RETRIEVAL, CAPTIONING)
# task -> what to pass to 'alp data build' for its data set, if that differs from the task's name
BUILT_AS = {
    "voxceleb1": "voxceleb",
    "voxceleb2": "voxceleb --option version=2",
    "nsynth_instrument": "nsynth",
    DETECTION: "audioset_strong",
    **dict.fromkeys((*RETRIEVAL, CAPTIONING), "audiocaps, musiccaps or paraspeechcaps"),
}
# the data set on which the paper measured a task, if the name of the task does not tell
ONLY_ON = {DETECTION: "audioset_strong"}


def not_measured(tasks: Iterable[str]) -> list[str]:
    """A line for every data set that has tasks of the paper's protocol missing from ``tasks``."""
    measured, lacking = set(tasks), {}
    for task in PAPER_TASKS:
        if task not in measured:
            lacking.setdefault(BUILT_AS.get(task, task), []).append(task)
    return [f"not measured: {', '.join(names)}; needs alp data build {built}" for built, names in lacking.items()]


def published(task: str, pooling: str, sources: set[str]) -> dict[str, float]:
    """Row -> the paper's value for a result on clips of ``sources``; empty if the paper has none."""
    if task in ONLY_ON and sources != {ONLY_ON[task]}:
        return {}
    column = TABLES.get((task, pooling))
    return {} if column is None else {row: v for row, v in zip(ROWS, column.values, strict=True) if v is not None}
