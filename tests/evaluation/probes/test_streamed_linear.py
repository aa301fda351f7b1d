"""The linear probe in minibatches: it agrees with the exact one, whatever the memory, the devices and interruptions."""

import jax
import numpy as np
import pytest

from alp_jax.core.errors import UserError
from alp_jax.evaluation import fit_state
from alp_jax.evaluation.budget import MemoryBudget
from alp_jax.evaluation.fit_state import Saves
from alp_jax.evaluation.probes import linear_probe as probe
from alp_jax.evaluation.probes import streamed_linear as streamed
from alp_jax.evaluation.probes.data import ProbeData, score
from alp_jax.evaluation.stats import bootstrap, metrics

AMPLE, SMALL = MemoryBudget(1 << 30, 1 << 32), MemoryBudget(1 << 30, 4 << 20)
TRAIN, TEST, WIDTH, CLASSES = 500, 600, 24, 8


@pytest.fixture(scope="module")
def planted():
    """(x, y) of features that lie mostly in a few directions, with classes that overlap."""
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((16, WIDTH)) * np.exp(-np.arange(16) / 4)[:, None]
    y = rng.integers(CLASSES, size=TRAIN + TEST).astype(np.int32)
    hidden = 0.8 * rng.standard_normal((CLASSES, 16))[y] + rng.standard_normal((len(y), 16))
    x = hidden @ mix + 0.3 * rng.standard_normal((len(y), WIDTH)) + 5
    return x.astype(np.float32), y


def data_of(x, y, classes=CLASSES):
    held = np.arange(TRAIN) % 5 == 0
    return ProbeData(lambda at: x[at], y[:TRAIN], held, lambda at: x[TRAIN + at], TEST, classes)


def run(data, budget=SMALL, saves=None):
    return probe.linear_probe(data, epochs=10, budget=budget, saves=saves or Saves())


def ends(estimate):
    drawn = bootstrap.Resamples([str(i) for i in range(TEST)])
    name = "accuracy" if estimate.binary else "map"
    return bootstrap.entries({name: [estimate]}, drawn, {})[name]["interval"]


def test_it_agrees_with_the_exact_fit_within_its_interval(planted):
    x, y = planted
    exact, of_exact = run(data_of(x, y), AMPLE)
    found, of_found = run(data_of(x, y))
    assert "steps" not in of_exact  # the exact fit has none
    assert of_found["steps"] > 0
    low, high = ends(metrics.mean(exact == y[TRAIN:]))
    assert low <= score(found, y[TRAIN:]) <= high
    assert (found == exact).mean() > 0.8  # the same clips, not just as many


def test_so_it_does_for_several_labels_per_clip(planted):
    x, y = planted
    many = np.eye(CLASSES, dtype=np.float32)[y]
    many[:, 0] = np.maximum(many[:, 0], y == 3)
    exact, _ = run(data_of(x, many), AMPLE)
    found, _ = run(data_of(x, many))
    low, high = ends(metrics.mean_average_precision(exact, many[TRAIN:]))
    assert low <= score(found, many[TRAIN:]) <= high


def test_penalties_in_sequence_select_what_they_select_side_by_side(planted, monkeypatch):
    x, y = planted
    calls = []
    step = streamed.step

    def counted(params, *rest, **options):
        calls.append(len(params["b"]))
        return step(params, *rest, **options)

    monkeypatch.setattr(streamed, "step", counted)
    together, first = run(data_of(x, y))
    assert set(calls) == {6, 1}
    calls.clear()
    shared, each = streamed.fit_bytes(WIDTH, CLASSES, streamed.LEAST_BATCH)
    apart, second = run(data_of(x, y), MemoryBudget(1 << 30, shared + 2 * each))
    assert set(calls) == {2, 1}
    assert (apart == together).mean() > 0.995
    assert second["penalty"] == first["penalty"]
    assert second["selection_score"] == pytest.approx(first["selection_score"], abs=0.01)
    with pytest.raises(UserError, match=r"one fit takes .* raise config.evaluation.device_gib"):
        run(data_of(x, y), MemoryBudget(1 << 30, shared))


@pytest.mark.parametrize("at_once", [6, 2])
def test_the_largest_penalty_and_the_shortest_training_win_among_equal_scores(planted, monkeypatch, at_once):
    x, y = planted
    monkeypatch.setattr(streamed._Fits, "scores", lambda fits, params, rows: [0.5] * len(fits.penalty_G))
    shared, each = streamed.fit_bytes(WIDTH, CLASSES, streamed.LEAST_BATCH)
    _, chosen = run(data_of(x, y), MemoryBudget(1 << 30, shared + at_once * each))
    assert chosen["penalty"] == max(probe.PENALTIES)
    assert chosen["steps"] == streamed.schedule(400, 10).looks[0]


def test_a_fit_that_was_killed_goes_on_and_gives_the_same_result(planted, monkeypatch, tmp_path):
    x, y = planted
    monkeypatch.setattr(fit_state, "EVERY_S", 0.0)
    data, (whole, selected) = data_of(x, y), run(data_of(x, y))
    step, calls = streamed.step, []

    def failing(*given, **options):
        calls.append(1)
        if len(calls) == 31:
            raise KeyboardInterrupt
        return step(*given, **options)

    monkeypatch.setattr(streamed, "step", failing)
    saves = Saves(tmp_path, ("task",))
    with pytest.raises(KeyboardInterrupt):
        run(data, saves=saves)
    again, then = run(data, saves=saves)
    np.testing.assert_array_equal(again, whole)
    assert then == selected
    assert len(calls) - 31 == streamed.schedule(400, 10).steps - 30 + selected["steps"]


def test_classes_that_are_split_over_devices_give_the_same_answers(planted, monkeypatch):
    x, y = planted
    one, first = run(data_of(x, y))
    monkeypatch.setattr(streamed, "CLASSES_PER_DEVICE", 8)
    assert streamed.class_devices(CLASSES) == 4
    many, second = run(data_of(x, y))
    assert (many == one).mean() > 0.995
    assert second["penalty"] == first["penalty"]
    monkeypatch.undo()
    assert streamed.class_devices(CLASSES) == 1
    assert streamed.class_devices(5994) == len(jax.local_devices()) == 8
