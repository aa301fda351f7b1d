"""Retrieval as a task: the captioned clips of training and test, and the metrics of both directions."""

import dataclasses

import numpy as np

from alp_jax.core.metrics import METRICS
from alp_jax.data.text.normalise import normalise
from alp_jax.evaluation.evaluator import Setup
from alp_jax.evaluation.measured import Measured, from_estimates
from alp_jax.evaluation.retrieval import ranking
from alp_jax.evaluation.stats import bootstrap, metrics
from alp_jax.evaluation.table import Shortage, Split, assert_disjoint, hold_out, split_fields, subset

MIN_CLIPS = 20  # captioned clips that training and test each need


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptionedClips(Split):
    """Clips with captions: test clips are searched and described, training clips are what text sides are fitted to.

    Attributes:
      train_captions, references: the captions of every training and every test clip.
      test_captions: all captions of test clips, in the order of ``gallery``.
      gallery: which clip each of ``test_captions`` belongs to, and which of them are equal.
      test_ids: ids of the test clips.
    """

    train_captions: list[tuple[str, ...]]
    references: list[tuple[str, ...]]
    test_captions: list[str]
    gallery: ranking.Gallery
    test_ids: list[str]


def captioned_clips(setup: Setup) -> CaptionedClips | Shortage | None:
    """The captioned clips of a data set; a shortage if training or test has too few, None if there are no captions.

    Raises:
      DataError: a group is on both sides.
    """
    table, config = setup.table, setup.config
    captioned = np.array([bool(captions) for captions in table.captions], bool)
    train, test = (rows[captioned[rows]] for rows in (table.rows("train"), table.rows("test")))
    if not captioned.any():
        return None
    have = {"train": len(train), "test": len(test)}
    train, test = subset(table, train, config.alignment_clips), subset(table, test, config.retrieval_clips)
    if min(len(train), len(test)) < MIN_CLIPS:
        clips = f"{have['test']} test and {have['train']} training clips with captions"
        return Shortage(f"{clips}, {MIN_CLIPS} of each are needed", have, dict.fromkeys(have, MIN_CLIPS))
    assert_disjoint("retrieval", table.groups(train), table.groups(test))
    references = [table.captions[row] for row in test]
    gallery, texts = ranking.gallery(references, normalise)
    return CaptionedClips(
        **split_fields(table, train, test, *hold_out(table.groups(train))),
        train_captions=[table.captions[row] for row in train],
        references=references,
        test_captions=texts,
        gallery=gallery,
        test_ids=[table.id[row] for row in test],
    )


def score_retrieval(
    clips: CaptionedClips, audio_AE: np.ndarray, text_ME: np.ndarray, **stated: dict
) -> dict[str, Measured]:
    """Recall at 10, 5 and 1, mean average precision at 10 (ours and the reference's) and median rank, per direction.

    Args:
      stated: ``notes`` and ``selected`` for both results.
    """
    measured = {}
    groups = np.asarray(clips.test_groups, dtype=object)
    for name, direction in ranking.evaluate(audio_AE, text_ME, clips.gallery).items():
        rank_Q = direction.rank_Q
        drawn = bootstrap.Resamples(groups[direction.clip_Q], direction.clip_Q)
        recalls = {f"recall_at_{cutoff}": cutoff for cutoff in reversed(ranking.CUTOFFS)}
        chance = dict(zip(reversed(recalls), direction.chances, strict=True))
        estimates = {recall: [metrics.mean(rank_Q <= cutoff)] for recall, cutoff in recalls.items()}
        estimates["map_at_10"] = [metrics.mean(direction.precision_Q)]
        estimates["map_at_10_reference"] = [metrics.mean(direction.reference_Q, ~np.isnan(direction.reference_Q))]
        measured[name] = from_estimates(estimates, drawn, chance, **stated)
        median, of_resamples = np.median(rank_Q), drawn.apply(lambda w, rank_Q=rank_Q: metrics.medians(rank_Q, w))
        ends = bootstrap.quantiles(median, of_resamples, drawn.freedom(), METRICS["median_rank"].bounds)
        measured[name].values["median_rank"] = {"value": float(median), "interval": ends, "chance": None}
        measured[name].outcomes["median_rank"] = rank_Q
    return measured
