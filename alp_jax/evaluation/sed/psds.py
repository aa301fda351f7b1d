"""Polyphonic sound detection score (PSDS), exact over all thresholds, in memory bounded by one class.

Definition: Bilen et al. 2020 (arXiv 1910.08440); thresholds: Ebbers et al. 2022 (arXiv 2201.13148), whose package
``sed_scores_eval`` gives the same values. Cross triggers are not punished (alpha_ct = 0), as in PSDS1.

A threshold that falls below a score makes that frame active. Going through the scores from the highest, every clip adds
to the counts of true and false positives of its class where its detections change; so a class is a list of changes, and
the score of any weighting of the clips, a bootstrap's for instance, is a cumulative sum over it.

Events of one class in a clip are the stretches in which the class sounds: annotations that overlap or touch are one
event, and what lies outside the clip is none, see ``stretches``. A sound that four people marked would else be four
events, and a detection much longer than it would pass as covered by them. The packages refuse such annotations.
Detections are runs of frames, so they neither touch nor leave the clip.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

DTC = GTC = 0.7  # PSDS1: shares of a detection and of an event that the other must cover
ALPHA_ST = 1.0  # PSDS1: weight of the deviation over classes
MAX_RATE = 100.0  # false positives per hour up to which the curve counts
_DECIMALS = 6  # times are compared to a microsecond, so that exact coverage is not lost to rounding


@dataclasses.dataclass(frozen=True)
class Changes:
    """What lowering the threshold of one class does, highest score first; arrays of equal length.

    Attributes:
      score: float, the threshold falls below it.
      clip: int32, position of the clip in which something changes.
      true, false: int32, change of the number of true and of false positives.
      events: int64[clips], events of the class in every clip.
    """

    score: np.ndarray
    clip: np.ndarray
    true: np.ndarray
    false: np.ndarray
    events: np.ndarray


def stretches(events_E2: np.ndarray, seconds: float) -> np.ndarray:
    """float64[S,2]: the events of one class in a clip as stretches that do not touch, in order, cut to the clip.

    Annotations that overlap or touch (to a microsecond) are one stretch. What has no length in the clip is left out.

    Args:
      events_E2: onset and offset in seconds.
      seconds: duration of the clip.

    Raises:
      ValueError: an event that ends before it begins, or whose times are not finite.
    """
    events_E2 = np.asarray(events_E2, np.float64).reshape(-1, 2)
    for onset, offset in events_E2:
        if not (np.isfinite(onset) and np.isfinite(offset) and onset <= offset):
            raise ValueError(f"an event from {onset:g} s to {offset:g} s: it has to end after it begins")
    inside_E2 = np.clip(events_E2, 0.0, seconds)
    inside_E2 = inside_E2[np.round(inside_E2[:, 1] - inside_E2[:, 0], _DECIMALS) > 0]
    inside_E2 = inside_E2[np.argsort(inside_E2[:, 0], kind="stable")]
    if not len(inside_E2):
        return inside_E2
    until_E = np.maximum.accumulate(inside_E2[:, 1])
    first_E = np.append(True, np.round(inside_E2[1:, 0] - until_E[:-1], _DECIMALS) > 0)
    last_E = np.append(first_E[1:], True)
    return np.stack([inside_E2[first_E, 0], until_E[last_E]], 1)


def class_changes(
    scores_NT: np.ndarray, length_N: np.ndarray, hop_N: np.ndarray, events: dict[int, np.ndarray]
) -> Changes:
    """The changes of one class.

    Args:
      scores_NT: frame scores of N clips, finite.
      length_N: frames of each clip.
      hop_N: seconds per frame of each clip; its frame t covers ``[t * hop, (t + 1) * hop)``.
      events: clip -> float[E,2] onset and offset in seconds, of which ``stretches`` are made; clips without any may be
        left out.

    Raises:
      ValueError: scores are not finite; as ``stretches``.
    """
    scores_NT = np.asarray(scores_NT, np.float64)
    inside_NT = np.arange(scores_NT.shape[1]) < np.asarray(length_N)[:, None]
    if not np.isfinite(scores_NT[inside_NT]).all():
        raise ValueError("scores of frames are not finite")
    events = {clip: stretches(of_clip, length_N[clip] * hop_N[clip]) for clip, of_clip in events.items()}
    with_events = sorted(clip for clip, of_clip in events.items() if len(of_clip))
    quiet_NT = inside_NT.copy()
    quiet_NT[with_events] = False
    parts = [_changes_without_events(scores_NT, quiet_NT)]
    for clip in with_events:
        score, true, false = _changes_with_events(scores_NT[clip, : length_N[clip]], hop_N[clip], events[clip])
        parts.append((score, np.full(len(score), clip), true, false))
    score, clip, true, false = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(-score, kind="stable")
    counts = np.zeros(len(scores_NT), np.int64)
    counts[with_events] = [len(events[clip]) for clip in with_events]
    return Changes(
        score[order],
        clip[order].astype(np.int32),
        true[order].astype(np.int32),
        false[order].astype(np.int32),
        counts,
    )


def _changes_without_events(scores_NT: np.ndarray, inside_NT: np.ndarray) -> tuple[np.ndarray, ...]:
    """Every detection is false: one begins below each rise's upper score and joins its neighbour below the lower."""
    before_NT = np.concatenate([np.full((len(scores_NT), 1), -np.inf), scores_NT[:, :-1]], 1)
    clip_U, frame_U = np.nonzero(inside_NT & (scores_NT > before_NT))
    lower_U = before_NT[clip_U, frame_U]
    joins_U = np.isfinite(lower_U)
    score = np.concatenate([scores_NT[clip_U, frame_U], lower_U[joins_U]])
    false = np.concatenate([np.ones(len(clip_U), int), -np.ones(joins_U.sum(), int)])
    return score, np.concatenate([clip_U, clip_U[joins_U]]), np.zeros(len(score), int), false


def _changes_with_events(scores_T: np.ndarray, hop: float, events_E2: np.ndarray) -> tuple[np.ndarray, ...]:
    """Scores, descending, and changes of true and false positives of a clip that has events."""
    level_K = np.unique(scores_T)[::-1]
    active_KT = scores_T[None] >= level_K[:, None]
    edge_KT = np.diff(np.pad(active_KT.astype(np.int8), [(0, 0), (1, 1)]), axis=1)
    level_S, first_S = np.nonzero(edge_KT > 0)
    last_S = np.nonzero(edge_KT < 0)[1]
    onset_S, offset_S = first_S * hop, last_S * hop
    shared_SE = np.maximum(
        np.minimum(offset_S[:, None], events_E2[:, 1]) - np.maximum(onset_S[:, None], events_E2[:, 0]), 0.0
    )
    relevant_S = np.round(shared_SE.sum(1), _DECIMALS) >= np.round(DTC * (offset_S - onset_S), _DECIMALS)
    covered_KE = np.zeros((len(level_K), len(events_E2)))
    np.add.at(covered_KE, level_S, shared_SE * relevant_S[:, None])
    length_E = events_E2[:, 1] - events_E2[:, 0]
    true_K = (np.round(covered_KE, _DECIMALS) >= np.round(GTC * length_E, _DECIMALS)).sum(1)
    false_K = np.bincount(level_S, minlength=len(level_K)) - np.bincount(level_S[relevant_S], minlength=len(level_K))
    return level_K, np.diff(true_K, prepend=0), np.diff(false_K, prepend=0)


def ratios(changes: Changes, weight_N: np.ndarray, false_K: int) -> np.ndarray | None:
    """float64[false_K + 1]: the largest share of events found with at most 0, 1, ..., ``false_K`` false positives.

    ``weight_N`` says how often each clip counts (whole numbers). None when no event is left.
    """
    events = int(changes.events @ weight_N)
    if not events:
        return None
    weight = weight_N[changes.clip]
    true, false = np.cumsum(changes.true * weight), np.cumsum(changes.false * weight)
    last = np.append(changes.score[1:] != changes.score[:-1], True) if len(true) else np.zeros(0, bool)
    true, false = true[last], false[last]
    kept = false <= false_K
    best = np.zeros(false_K + 1)
    np.maximum.at(best, false[kept], true[kept])
    return np.maximum.accumulate(best) / events


def psds(
    classes: Iterable[Changes],
    seconds_N: np.ndarray,
    weight_RN: np.ndarray,
    alphas: Sequence[float] = (ALPHA_ST,),
) -> np.ndarray:
    """The score float64[A,R] for A weights of the deviation over classes and R weightings of the clips.

    A class without an event in any clip is left out. One whose events no clip of a weighting holds counts there as it
    does over the clips as they are, so that its absence moves nothing. One class is in memory at a time.

    Args:
      classes: the changes of every class.
      seconds_N: durations of the clips.
      weight_RN: whole numbers; a row of ones is the data set itself.
      alphas: 1 is PSDS1's; 0 gives the mean of the classes' own scores.

    Raises:
      ValueError: no class has an event.
    """
    hours_R = weight_RN @ np.asarray(seconds_N, np.float64) / 3600
    false_R = np.floor(MAX_RATE * hours_R).astype(int)
    total, square = ([np.zeros(k + 1) for k in false_R] for _ in range(2))
    counted_R = np.zeros(len(weight_RN), int)
    for changes in classes:
        if not changes.events.any():
            continue
        ones_N = np.ones(len(changes.events), np.int64)
        for r, weight_N in enumerate(weight_RN.astype(np.int64)):
            ratio_K = ratios(changes, weight_N, int(false_R[r]))
            if ratio_K is None:
                ratio_K = ratios(changes, ones_N, int(false_R[r]))
            total[r] += ratio_K
            square[r] += ratio_K**2
            counted_R[r] += 1
    if not counted_R.all():
        raise ValueError("no class has an event in the clips")
    areas = [_areas(*curve, alphas) for curve in zip(total, square, counted_R, hours_R, strict=True)]
    return np.array(areas).T


def _areas(total: np.ndarray, square: np.ndarray, classes: int, hours: float, alphas: Sequence[float]) -> list[float]:
    """Area under mean minus alpha times deviation of the classes' ratios, a staircase over rates, over MAX_RATE."""
    mean = total / classes
    deviation = np.sqrt(np.maximum(square / classes - mean**2, 0.0))
    width = np.diff(np.append(np.arange(len(mean)) / hours, MAX_RATE))
    return [float(np.maximum(mean - alpha * deviation, 0.0) @ width / MAX_RATE) for alpha in alphas]
