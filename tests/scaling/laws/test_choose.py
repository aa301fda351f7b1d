"""The held-out top rung tells which form made the runs."""

import numpy as np
import pytest

from alp_jax.scaling.laws.choose import STAY, choose_law

X = np.repeat(np.geomspace(1e2, 1e8, 9), 2)
MADE = {
    "power": 0.1 + 3 * X**-0.25,
    "saturating": 0.1 + 0.8 / (1 + (X / 1e5) ** 0.7),
    "broken": 0.05 + 3 * X**-0.05 * (1 + (X / 1e5) ** 2) ** (-0.5 * 0.5),
}


@pytest.mark.parametrize("made", MADE)
def test_the_form_that_made_the_runs_is_picked(made):
    noise = np.exp(0.002 * np.random.default_rng(0).standard_normal(len(X)))
    choice = choose_law(X, MADE[made] * noise)
    assert choice.law == made
    assert set(choice.errors) == {"power", "saturating", "broken", STAY}
    assert choice.errors[made] < 0.02 < choice.errors[STAY]
    assert (choice.held_out, choice.rungs) == (2, 8)


def test_the_top_rung_is_not_fitted():
    held = MADE["power"].copy()
    held[-2:] *= 2
    choice = choose_law(X, held, ["power"])
    assert choice.errors["power"] == pytest.approx(np.log(2), abs=1e-4)
    assert "do not extrapolate" in choice.warnings[0]


def test_laws_that_the_lower_rungs_cannot_hold_are_named():
    few = np.isin(X, np.unique(X)[:4])
    choice = choose_law(X[few], MADE["power"][few])
    assert choice.law == "power"
    assert choice.refused == {
        "saturating": "without the top rung: 3 rungs of x (4 are needed)",
        "broken": "without the top rung: 3 rungs of x (5 are needed)",
    }
    assert choose_law(X[:6], MADE["power"][:6]).law is None


def test_laws_of_two_inputs_are_compared_with_each_other():
    unique, epochs = (a.ravel() for a in np.meshgrid(np.geomspace(1e3, 1e6, 5), [1.0, 4, 16, 64], indexing="ij"))
    worth = unique * (1 + 5 * (1 - np.exp(-(epochs - 1) / 5)))
    choice = choose_law(np.stack([unique, epochs], 1), 0.1 + 5 * worth**-0.3)
    assert set(choice.errors) == {"repeated", "data_model", STAY}
    assert choice.law == "repeated"


def test_equal_errors_pick_the_fewest_parameters():
    noise = np.exp(0.05 * np.random.default_rng(1).standard_normal(len(X)))
    choice = choose_law(X, MADE["power"] * noise)
    assert choice.law == "power"
    assert any("fewest parameters" in warning for warning in choice.warnings)
