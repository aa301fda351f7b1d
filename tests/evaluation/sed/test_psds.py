"""PSDS against values of the package sed_scores_eval, against its definition threshold by threshold, and by weight."""

import json
import pathlib

import numpy as np
import pytest

from alp_jax.evaluation.sed.psds import MAX_RATE, class_changes, psds, ratios, stretches

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "psds.json").read_text())["cases"]


def read(case):
    length_N = np.array([len(scores) for scores in case["milli_scores"]])
    classes = sorted(case["single"])
    scores_NTC = np.zeros((len(length_N), length_N.max(), len(classes)))
    for n, scores in enumerate(case["milli_scores"]):
        scores_NTC[n, : length_N[n]] = np.array(scores) / 1000
    events = [
        {n: np.array([e[:2] for e in found if e[2] == name]).reshape(-1, 2) for n, found in enumerate(case["events"])}
        for name in classes
    ]
    hop_N = np.full(len(length_N), case["hop"])
    return scores_NTC, length_N, hop_N, events


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_values_of_the_reference(name):
    case = GOLDEN[name]
    scores_NTC, length_N, hop_N, events = read(case)
    changes = [class_changes(scores_NTC[..., c], length_N, hop_N, found) for c, found in enumerate(events)]
    seconds_N, ones_RN = length_N * hop_N, np.ones((1, len(length_N)))
    alphas = [float(alpha) for alpha in case["psds"]]
    assert len(alphas) == 2
    np.testing.assert_allclose(psds(changes, seconds_N, ones_RN, alphas)[:, 0], list(case["psds"].values()), atol=1e-12)
    single = [psds([one], seconds_N, ones_RN)[0, 0] for one in changes]
    np.testing.assert_allclose(single, [case["single"][key] for key in sorted(case["single"])], atol=1e-12)


def test_a_weight_of_two_is_the_clip_twice_and_of_zero_none():
    scores_NTC, length_N, hop_N, events = read(GOLDEN["dense"])
    weight_N = np.random.default_rng(1).integers(0, 4, len(length_N))
    taken = np.repeat(np.arange(len(length_N)), weight_N)
    weighted, copied = (
        [
            class_changes(
                scores_NTC[rows, :, c], length_N[rows], hop_N[rows], {k: found[n] for k, n in enumerate(rows)}
            )
            for c, found in enumerate(events)
        ]
        for rows in (np.arange(len(length_N)), taken)
    )
    value = psds(weighted, length_N * hop_N, weight_N[None])[0, 0]
    assert value == pytest.approx(psds(copied, (length_N * hop_N)[taken], np.ones((1, len(taken))))[0, 0], abs=1e-12)
    assert value != pytest.approx(psds(weighted, length_N * hop_N, np.ones((1, len(length_N))))[0, 0], abs=1e-3)


def test_perfect_scores_count_fully_and_false_alarms_limit_the_rate():
    score_T = np.zeros(100)
    score_T[20:40] = 0.9
    events = {0: np.array([[2.0, 4.0]])}
    perfect = class_changes(score_T[None], np.array([100]), np.array([0.1]), events)
    assert psds([perfect], np.array([10.0]), np.ones((1, 1)))[0, 0] == 1.0
    score_T[60] = 0.95  # one louder false alarm in ten minutes: six an hour must be allowed before the event is found
    alarmed = class_changes(score_T[None], np.array([100]), np.array([0.1]), events)
    assert psds([alarmed], np.array([600.0]), np.ones((1, 1)))[0, 0] == pytest.approx(1 - 6 / MAX_RATE)
    assert ratios(alarmed, np.ones(1, int), 2).tolist() == [0.0, 1.0, 1.0]


def test_input_that_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="finite"):
        class_changes(np.array([[0.1, np.nan]]), np.array([2]), np.array([0.1]), {})
    silent = class_changes(np.array([[0.1, 0.2]]), np.array([2]), np.array([0.1]), {})
    with pytest.raises(ValueError, match="no class"):
        psds([silent], np.array([0.2]), np.ones((1, 1)))


MARKED = {
    "once": [[2, 4]],
    "four times": [[2, 4]] * 4,
    "by four who disagree": [[2, 4], [2, 4.2], [1.9, 4], [2.1, 4.1]],
    "in two halves": [[2, 3], [3, 4]],
    "one inside another": [[1.8, 4.2], [3, 3.5]],
}


@pytest.mark.parametrize("how", MARKED)
@pytest.mark.parametrize(("first", "last", "expected"), [(0, 100, 0.0), (20, 40, 1.0), (35, 55, 0.0)])
def test_a_sound_counts_once_however_often_it_is_marked(how, first, last, expected):
    score_T = np.zeros((1, 100))
    score_T[0, first:last] = 0.9
    found = class_changes(score_T, np.array([100]), np.array([0.1]), {0: np.array(MARKED[how], float)})
    assert found.events.tolist() == [1]
    assert psds([found], np.array([10.0]), np.ones((1, 1)))[0, 0] == expected


def test_events_end_with_the_clip():
    """As if the annotation had stopped there; what lies behind the end is no event."""
    score_T = np.zeros((1, 100))
    score_T[0, 90:] = 0.9
    marked = {0: np.array([[9.0, 12.0], [10.0, 11.0], [15.0, 16.0]])}
    found = class_changes(score_T, np.array([100]), np.array([0.1]), marked)
    assert found.events.tolist() == [1]
    assert psds([found], np.array([10.0]), np.ones((1, 1)))[0, 0] == 1.0


def test_stretches_are_where_any_event_is():
    rng = np.random.default_rng(0)
    for _ in range(50):
        onset = np.round(rng.uniform(-1, 11, rng.integers(1, 8)), 1)
        marked = np.stack([onset, onset + np.round(rng.uniform(0, 3, len(onset)), 1)], 1)
        found = stretches(marked, 10.0)
        middle = np.arange(0.05, 10, 0.1)
        inside = [((t[:, 0] <= m) & (m < t[:, 1])).any() for t in (marked, found) for m in middle]
        assert inside[:100] == inside[100:]
        assert (found[1:, 0] > found[:-1, 1]).all()
        assert ((found >= 0) & (found <= 10)).all()
    with pytest.raises(ValueError, match="from 3 s to 2 s"):
        stretches(np.array([[3.0, 2.0]]), 10.0)
    with pytest.raises(ValueError, match="from 3 s to nan s"):
        stretches(np.array([[3.0, np.nan]]), 10.0)


def test_a_class_that_a_weighting_has_not_moves_nothing():
    """One class is found, one is not: without the clip of the latter, the former alone would score twice as much."""
    score_T = np.zeros((3, 100))
    score_T[0, 20:40] = 0.9
    hop_N, length_N, seconds_N = np.full(3, 0.1), np.full(3, 100), np.full(3, 10.0)
    found = class_changes(score_T, length_N, hop_N, {0: np.array([[2.0, 4.0]])})
    missed = class_changes(np.zeros((3, 100)), length_N, hop_N, {1: np.array([[5.0, 6.0]])})
    silent = class_changes(np.zeros((3, 100)), length_N, hop_N, {})
    weight_RN = np.array([[1, 1, 1], [2, 0, 1]])
    assert psds([found], seconds_N, weight_RN, (0.0,))[0].tolist() == [1.0, 1.0]
    assert psds([found, missed, silent], seconds_N, weight_RN, (0.0,))[0].tolist() == [0.5, 0.5]
