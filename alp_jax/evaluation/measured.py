"""From a task and a model's features to metric values with intervals and chance levels."""

import dataclasses

import numpy as np

from alp_jax.config.schema import EvalConfig
from alp_jax.core.hashing import fingerprint
from alp_jax.core.metrics import METRICS
from alp_jax.data.text.normalise import normalise
from alp_jax.evaluation.probes.tasks import Shortage, Table, Task, assert_disjoint, hold_out, subset
from alp_jax.evaluation.retrieval import ranking
from alp_jax.evaluation.stats import bootstrap, metrics

DIRECTIONS = ("text_to_audio", "audio_to_text")
MIN_RETRIEVAL = 20  # clips with captions that training and test need each


@dataclasses.dataclass(frozen=True)
class Measured:
    """Metric name -> value, interval and chance (None where there is no such thing); the first is the headline.

    ``notes``: what else the result of the task states.

    Raises:
      ValueError: a metric that ``core.metrics.METRICS`` does not know, so that nothing could rank or print it.
    """

    values: dict[str, dict]
    resampled: str
    notes: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        unknown = [name for name in self.values if name not in METRICS]
        if unknown:
            raise ValueError(f"metric {unknown[0]} is not in core.metrics.METRICS: say there what it is")

    def headline(self) -> tuple[str, dict]:
        return next(iter(self.values.items()))


def judge(task: Task, logits: np.ndarray) -> Measured:
    """Accuracy and balanced accuracy of a single-label task, mean average precision of a multi-label one.

    Chance is the better of always answering the class that training has most of and of answering at random.

    Args:
      logits: [N, C] of the test clips, or [S, N, C] of probes that differ in their seed: the values are means over
        seeds, and the intervals resample seeds as they do clips.

    Raises:
      ValueError: logits are not finite.
    """
    if not np.isfinite(logits).all():
        raise ValueError(f"task {task.name}: the probe's scores are not finite")
    drawn = bootstrap.Resamples(task.test_groups)
    logits_SNC = logits.reshape(-1, *logits.shape[-2:])
    if task.test_y.ndim == 2:
        prevalence_C = task.test_y.mean(0)
        chance = {"map": float(prevalence_C[prevalence_C > 0].mean())}
        found = {"map": [metrics.mean_average_precision(logits_NC, task.test_y) for logits_NC in logits_SNC]}
    else:
        correct_SN = logits_SNC.argmax(2) == task.test_y
        majority = float((task.test_y == np.bincount(task.train_y).argmax()).mean())
        chance = {
            "accuracy": max(majority, 1 / len(task.classes)),
            "balanced_accuracy": 1 / len(np.unique(task.test_y)),
        }
        found = {
            "accuracy": [metrics.mean(correct_N) for correct_N in correct_SN],
            "balanced_accuracy": [metrics.balanced_accuracy(correct_N, task.test_y) for correct_N in correct_SN],
        }
    by_seed = {name: [estimate.value for estimate in estimates] for name, estimates in found.items()}
    notes = {"by_seed": by_seed} if len(logits_SNC) > 1 else {}
    return Measured(bootstrap.entries(found, drawn, chance), drawn.unit, notes)


@dataclasses.dataclass(frozen=True)
class RetrievalTask:
    """Clips to search, and training clips for the linear alignment; captions and groups as in the table."""

    train_row: np.ndarray
    held: np.ndarray
    test_row: np.ndarray
    train_captions: list[tuple[str, ...]]
    test_captions: list[str]
    gallery: ranking.Gallery
    train_groups: tuple[str, ...]
    test_groups: tuple[str, ...]
    selection: str
    split_hash: str


def retrieval_task(table: Table, config: EvalConfig) -> RetrievalTask | Shortage | None:
    """None when the data set has no captions, a shortage when it has too few captioned clips in training or test.

    Raises:
      DataError: naming a group that is on both sides.
    """
    captioned = np.array([bool(captions) for captions in table.captions], bool)
    train, test = (rows[captioned[rows]] for rows in (table.rows("train"), table.rows("test")))
    if not captioned.any():
        return None
    have = {"train": len(train), "test": len(test)}
    train, test = subset(table, train, config.alignment_clips), subset(table, test, config.retrieval_clips)
    if min(len(train), len(test)) < MIN_RETRIEVAL:
        clips = f"{have['test']} test and {have['train']} training clips with captions"
        return Shortage(f"{clips}, {MIN_RETRIEVAL} of each are needed", have, dict.fromkeys(have, MIN_RETRIEVAL))
    train_groups = tuple(table.group[row] for row in train)
    test_groups = tuple(table.group[row] for row in test)
    assert_disjoint("retrieval", train_groups, test_groups)
    held, selection = hold_out(train_groups, [""] * len(train))
    tested, texts = ranking.gallery([table.captions[row] for row in test], normalise)
    return RetrievalTask(
        train_row=train,
        held=held,
        test_row=test,
        train_captions=[table.captions[row] for row in train],
        test_captions=texts,
        gallery=tested,
        train_groups=train_groups,
        test_groups=test_groups,
        selection=selection,
        split_hash=fingerprint({"train": [table.id[r] for r in train], "test": [table.id[r] for r in test]}),
    )


def judge_retrieval(task: RetrievalTask, audio_AE: np.ndarray, text_TE: np.ndarray) -> dict[str, Measured]:
    """Recall at 10, 5 and 1, mAP@10, the reference's number of that name and the median rank, per direction."""
    measured = {}
    groups = np.asarray(task.test_groups, dtype=object)
    for name, found in ranking.evaluate(audio_AE, text_TE, task.gallery).items():
        drawn = bootstrap.Resamples(groups[found.clip_Q], found.clip_Q)
        chance = {f"recall_at_{cutoff}": value for cutoff, value in zip(ranking.CUTOFFS, found.chances, strict=True)}
        estimates = {
            f"recall_at_{cutoff}": [metrics.mean(found.rank_Q <= cutoff)] for cutoff in reversed(ranking.CUTOFFS)
        }
        estimates["map_at_10"] = [metrics.mean(found.precision_Q)]
        estimates["map_at_10_reference"] = [metrics.mean(found.reference_Q, ~np.isnan(found.reference_Q))]
        median, of_resamples = np.median(found.rank_Q), drawn.apply(lambda w, r=found.rank_Q: metrics.medians(r, w))
        ends = bootstrap.quantiles(median, of_resamples, drawn.freedom(), METRICS["median_rank"].bounds)
        rank = {"value": float(median), "interval": ends, "chance": None}
        measured[name] = Measured(bootstrap.entries(estimates, drawn, chance) | {"median_rank": rank}, drawn.unit)
    return measured
