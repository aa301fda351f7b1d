"""Planted power laws come back, with intervals that cover them and warnings where they should be."""

import numpy as np
import pytest

from alp_jax.scaling import fit as fitting
from alp_jax.scaling.fit import fit_power_law, power_law


def planted(rng, rungs, seeds, noise, law=None):
    E, A, alpha = law or (rng.uniform(0.05, 0.3), rng.uniform(3, 10), rng.uniform(0.25, 0.5))
    x = np.repeat(np.geomspace(1e3, 1e7, rungs), seeds)
    return x, power_law(x, E, A, alpha) * np.exp(noise * rng.standard_normal(len(x))), {"E": E, "A": A, "alpha": alpha}


def test_noiseless_laws_are_recovered_to_four_digits():
    rng = np.random.default_rng(0)
    for _ in range(5):
        x, y, law = planted(rng, 6, 1, 0.0)
        fit = fit_power_law(x, y, replicas=20)
        assert [fit.E, fit.A, fit.alpha] == pytest.approx([law["E"], law["A"], law["alpha"]], rel=1e-4)


def test_noisy_laws_are_recovered_and_their_intervals_cover():
    rng = np.random.default_rng(1)
    errors, covered = [], 0
    for k in range(12):
        x, y, law = planted(rng, 7, 3, 0.005)
        fit = fit_power_law(x, y, replicas=60, seed=k)
        errors.append(abs(fit.alpha / law["alpha"] - 1))
        covered += fit.interval["alpha"][0] <= law["alpha"] <= fit.interval["alpha"][1]
    assert np.median(errors) < 0.05
    assert covered >= 10
    assert not fit.warnings


def test_one_outlier_does_not_move_the_exponent():
    x, y, law = planted(np.random.default_rng(2), 7, 3, 0.003, (0.1, 5.0, 0.4))
    y[4] *= 1.3
    assert fit_power_law(x, y, replicas=20).alpha == pytest.approx(law["alpha"], rel=0.05)


def test_the_batch_minimiser_is_at_least_as_good_as_scipy_from_many_starts():
    from scipy.optimize import minimize

    rng = np.random.default_rng(3)
    for rungs in (3, 5):
        x, y, _ = planted(rng, rungs, 2, 0.03)
        u, v = np.log(x) - np.log(np.unique(x)).mean(), np.log(y)

        def loss(p, u=u, v=v):
            return fitting._loss(fitting._predict(p[None], u[None])[0] - v)[0] * 1e3

        bounds = [(v.min() - 12, v.max()), (v.min() - 12, v.max() + 12), (0, 5)]
        starts = fitting._starts(u[None], v[None])[0][::6]
        theirs = min(
            minimize(loss, s, method="Nelder-Mead", bounds=bounds, options={"maxiter": 2000}).fun for s in starts
        )
        ours = fitting._fit_batch(u[None], v[None], None, keep=36)[0]
        assert loss(ours) <= theirs * (1 + 1e-5)


def test_three_rungs_warn_that_exponent_and_asymptote_are_confounded():
    x, y, _ = planted(np.random.default_rng(4), 3, 2, 0.02)
    fit = fit_power_law(x, y, replicas=50)
    assert any("confounded" in warning for warning in fit.warnings)
    low, high = fit.interval["alpha"]
    assert high - low > 0.05


def test_three_runs_have_no_noise_estimate():
    x, y, _ = planted(np.random.default_rng(5), 3, 1, 0.02)
    fit = fit_power_law(x, y, replicas=20)
    assert fit.residual_sd is None
    assert fit.parametric["alpha"] is None
    assert any("noise is unknown" in warning for warning in fit.warnings)


def test_errors_that_rise_with_data_are_called_so():
    x = np.repeat(np.geomspace(1e3, 1e6, 5), 2)
    fit = fit_power_law(x, 0.3 * x**0.05, replicas=20)
    assert fit.alpha == 0
    assert any("does not fall" in warning for warning in fit.warnings)


def test_the_curve_lies_inside_its_band_and_the_same_seed_gives_the_same_fit():
    x, y, _ = planted(np.random.default_rng(6), 5, 2, 0.02)
    fit = fit_power_law(x, y, replicas=50, seed=3)
    curve = {name: np.array(values) for name, values in fit.curve.items()}
    assert (curve["low"] <= curve["y"]).all()
    assert (curve["y"] <= curve["high"]).all()
    assert fit == fit_power_law(x, y, replicas=50, seed=3)


@pytest.mark.parametrize(("x", "y"), [([1, 2, 3], [1, -1, 1]), ([1, 2, np.inf], [1, 1, 1]), ([1, 1, 2], [1, 1, 1])])
def test_unusable_numbers_are_refused(x, y):
    with pytest.raises(ValueError):
        fit_power_law(x, y)


def test_two_seeds_per_rung_have_one_best_curve_between_them():
    x = np.repeat([1e3, 1e4, 1e5], 2)
    middle = power_law(x, 0.2, 5.0, 0.4)
    fit = fit_power_law(x, middle * np.exp(np.tile([-0.03, 0.03], 3)), replicas=20)
    assert [fit.E, fit.alpha] == pytest.approx([0.2, 0.4], rel=0.01)
