"""Polyphonic sound detection score (PSDS), exact over all thresholds, in memory bounded by one class.

Definition: Bilen et al. 2020 (arXiv 1910.08440); thresholds: Ebbers et al. 2022 (arXiv 2201.13148), whose package
``sed_scores_eval`` gives the same values. Cross triggers are not punished (alpha_ct = 0), as in PSDS1.

A frame is active if the threshold is not above its score. As the threshold falls from the highest score, a clip changes
the counts of true and false positives of a class wherever its detections change; so a class is a list of changes, and
the score of any weighting of the clips, a bootstrap's for instance, is a cumulative sum over that list.

Events of one class in a clip are the stretches in which the class sounds: annotations that overlap or touch are one
event, and whatever lies outside the clip is cut off; see ``stretches``. Otherwise a sound that four people marked would
be four events, and a detection much longer than the sound would count as covered by them. The published packages refuse
such annotations. Detections are runs of frames, so they neither touch nor leave the clip.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

# PSDS1: the share of a detection that events must cover (detection tolerance criterion), and the share of an event that
# detections must cover (ground truth intersection criterion)
DTC = GTC = 0.7
ALPHA_ST = 1.0  # PSDS1: weight of the deviation over classes
PSDS_RESAMPLES = 100  # for the interval; few, as each takes a whole score
MAX_RATE = 100.0  # false positives per hour up to which the curve counts
_DECIMALS = 6  # times are compared to the microsecond: a share of exactly 0.7 must not fail by a rounding error


@dataclasses.dataclass(frozen=True)
class Changes:
    """How counts change as the threshold of one class falls, highest score first; all but ``events`` of equal length.

    Attributes:
      score: float, the score that the threshold reaches.
      clip: int32, position of the clip whose counts change.
      true, false: int32, by how much its numbers of true and false positives change.
      events: int64[clips], number of events of the class in every clip.
    """

    score: np.ndarray
    clip: np.ndarray
    true: np.ndarray
    false: np.ndarray
    events: np.ndarray


def stretches(events_E2: np.ndarray, seconds: float) -> np.ndarray:
    """float64[S,2]: the events of one class in a clip as stretches that do not touch, in order, cut to the clip.

    Annotations that overlap or touch (to the microsecond) become one stretch. Those of no length in the clip are left
    out.

    Args:
      events_E2: onsets and offsets in seconds.
      seconds: duration of the clip.

    Raises:
      ValueError: an event ends before it begins, or its times are not finite.
    """
    events_E2 = np.asarray(events_E2, np.float64).reshape(-1, 2)
    for onset, offset in events_E2:
        if not (np.isfinite(onset) and np.isfinite(offset) and onset <= offset):
            raise ValueError(f"an event from {onset:g} s to {offset:g} s: it must end after it begins")
    inside_E2 = np.clip(events_E2, 0.0, seconds)
    inside_E2 = inside_E2[np.round(inside_E2[:, 1] - inside_E2[:, 0], _DECIMALS) > 0]
    inside_E2 = inside_E2[np.argsort(inside_E2[:, 0], kind="stable")]
    if not len(inside_E2):
        return inside_E2
    # the latest end so far: the previous event's own may lie before that of a longer one which encloses it
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
      hop_N: seconds per frame of each clip; frame t covers ``[t * hop, (t + 1) * hop)``.
      events: clip -> float[E,2], onsets and offsets in seconds, which ``stretches`` joins; clips without events may be
        left out.

    Raises:
      ValueError: scores are not finite; otherwise as ``stretches``.
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
    """(score, clip, true, false) of clips without events, in which every detection is false.

    Where the score rises from a frame to the next, a detection begins once the threshold reaches the upper score and
    joins the one before it at the lower score; that of a clip's first frame has nothing before it to join.
    """
    before_NT = np.concatenate([np.full((len(scores_NT), 1), -np.inf), scores_NT[:, :-1]], 1)
    clip_U, frame_U = np.nonzero(inside_NT & (scores_NT > before_NT))
    lower_U = before_NT[clip_U, frame_U]
    joins_U = np.isfinite(lower_U)
    score = np.concatenate([scores_NT[clip_U, frame_U], lower_U[joins_U]])
    false = np.concatenate([np.ones(len(clip_U), int), -np.ones(joins_U.sum(), int)])
    return score, np.concatenate([clip_U, clip_U[joins_U]]), np.zeros(len(score), int), false


def _changes_with_events(scores_T: np.ndarray, hop: float, events_E2: np.ndarray) -> tuple[np.ndarray, ...]:
    """Scores, descending, and the changes of true and false positives there, of one clip with events."""
    level_K = np.unique(scores_T)[::-1]
    active_KT = scores_T[None] >= level_K[:, None]
    edge_KT = np.diff(np.pad(active_KT.astype(np.int8), [(0, 0), (1, 1)]), axis=1)
    # a row of ``edge_KT`` has its starts and ends in turn, and nonzero goes row by row: both lists pair up by position
    level_S, first_S = np.nonzero(edge_KT > 0)
    last_S = np.nonzero(edge_KT < 0)[1]
    onset_S, offset_S = first_S * hop, last_S * hop
    shared_SE = np.maximum(
        np.minimum(offset_S[:, None], events_E2[:, 1]) - np.maximum(onset_S[:, None], events_E2[:, 0]), 0.0
    )
    relevant_S = np.round(shared_SE.sum(1), _DECIMALS) >= np.round(DTC * (offset_S - onset_S), _DECIMALS)
    # Only detections that pass the first criterion count towards the second, so a run much longer than its events finds
    # none. Several may cover parts of one event at one level: add.at adds them up, where += would keep just one.
    covered_KE = np.zeros((len(level_K), len(events_E2)))
    np.add.at(covered_KE, level_S, shared_SE * relevant_S[:, None])
    length_E = events_E2[:, 1] - events_E2[:, 0]
    true_K = (np.round(covered_KE, _DECIMALS) >= np.round(GTC * length_E, _DECIMALS)).sum(1)
    false_K = np.bincount(level_S, minlength=len(level_K)) - np.bincount(level_S[relevant_S], minlength=len(level_K))
    return level_K, np.diff(true_K, prepend=0), np.diff(false_K, prepend=0)


def ratios(changes: Changes, weight_N: np.ndarray, false_K: int) -> np.ndarray | None:
    """float64[false_K + 1]: the largest share of events found with at most 0, 1, ..., ``false_K`` false positives.

    ``weight_N`` says how often each clip counts (whole numbers). None if no clip that counts has an event.
    """
    events = int(changes.events @ weight_N)
    if not events:
        return None
    weight = weight_N[changes.clip]
    true, false = np.cumsum(changes.true * weight), np.cumsum(changes.false * weight)
    # Counts are those of a threshold only after the last change at its score. In between they would depend on the order
    # of clips with equal scores.
    last = np.append(changes.score[1:] != changes.score[:-1], True) if len(true) else np.zeros(0, bool)
    true, false = true[last], false[last]
    # Lowering the threshold can lose false positives (detections join) and true ones (they grow too long), so the
    # curve is the best at each count of false positives, and then the best up to it.
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
    """The score, float64[A,R], for A weights of the deviation over classes and R weightings of the clips.

    A class without an event in any clip is left out. If a weighting drops all clips with events of a class, the curve
    of that class over the unweighted clips stands in, so that its absence moves nothing.

    Args:
      classes: the changes of every class; one class is in memory at a time.
      seconds_N: durations of the clips.
      weight_RN: whole numbers; a row of ones is the data set itself.
      alphas: 1 gives PSDS1; 0 gives the mean of the classes' own scores.

    Raises:
      ValueError: no class has an event.
    """
    hours_R = weight_RN @ np.asarray(seconds_N, np.float64) / 3600
    false_R = np.floor(MAX_RATE * hours_R).astype(int)
    total, square = ([np.zeros(k + 1) for k in false_R] for _ in range(2))
    counted_R = np.zeros(len(weight_RN), int)
    # Classes outside, weightings inside: ``classes`` may be a generator that computes the scores of each on demand.
    # Mean and deviation over classes need only the sum of their curves and of the squares.
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
    """Per alpha, the area under the classes' mean ratio less alpha times their deviation, divided by MAX_RATE."""
    mean = total / classes
    # classes that agree leave a difference of rounding errors, which may be negative
    deviation = np.sqrt(np.maximum(square / classes - mean**2, 0.0))
    # a staircase: each count of false positives is a rate up to the next, the last one up to MAX_RATE
    width = np.diff(np.append(np.arange(len(mean)) / hours, MAX_RATE))
    return [float(np.maximum(mean - alpha * deviation, 0.0) @ width / MAX_RATE) for alpha in alphas]
