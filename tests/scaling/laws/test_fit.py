"""Planted laws of every form come back, with intervals that hold them and warnings where they should be."""

import numpy as np
import pytest
from scipy.optimize import minimize

from alp_jax.scaling.laws.fit import fit_law
from alp_jax.scaling.laws.forms import BREAK_WIDTH, LAWS
from alp_jax.scaling.laws.minimise import losses, predict, solve


def cross(*axes):
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], 1)


def power(x, E, A, alpha):
    return E + A * x**-alpha


def worth(x, R):
    return x[:, 0] * (1 + R * (1 - np.exp(-(x[:, 1] - 1) / R)))


PLANTED = {  # law -> inputs, parameters, formula written out once more
    "power": (np.geomspace(1e3, 1e7, 6), {"E": 0.1, "A": 5.0, "alpha": 0.4}, power),
    "data_model": (
        cross(np.geomspace(1e4, 1e7, 5), np.geomspace(1e6, 1e8, 4)),
        {"E": 0.1, "A": 5.0, "alpha": 0.3, "B": 20.0, "beta": 0.35},
        lambda x, E, A, alpha, B, beta: E + A * x[:, 0] ** -alpha + B * x[:, 1] ** -beta,
    ),
    "repeated": (
        cross(np.geomspace(1e3, 1e6, 5), np.array([1.0, 4, 16, 64])),
        {"E": 0.1, "A": 5.0, "alpha": 0.3, "R": 8.0},
        lambda x, E, A, alpha, R: power(worth(x, R), E, A, alpha),
    ),
    "saturating": (
        np.geomspace(1e2, 1e8, 13),
        {"E": 0.1, "C": 0.9, "alpha": 0.7, "x0": 1e5},
        lambda x, E, C, alpha, x0: E + (C - E) / (1 + (x / x0) ** alpha),
    ),
    "broken": (
        np.geomspace(1e2, 1e9, 15),
        {"E": 0.05, "A": 3.0, "alpha": 0.15, "delta": 0.3, "x0": 1e5},
        lambda x, E, A, alpha, delta, x0: (
            E + A * x**-alpha * (1 + (x / x0) ** (1 / BREAK_WIDTH)) ** (-delta * BREAK_WIDTH)
        ),
    ),
}


def planted(rng, rungs, seeds, noise, law=None):
    E, A, alpha = law or (rng.uniform(0.05, 0.3), rng.uniform(3, 10), rng.uniform(0.25, 0.5))
    x = np.repeat(np.geomspace(1e3, 1e7, rungs), seeds)
    return x, power(x, E, A, alpha) * np.exp(noise * rng.standard_normal(len(x))), {"E": E, "A": A, "alpha": alpha}


@pytest.mark.parametrize("name", LAWS)
def test_every_form_is_recovered_without_noise(name):
    x, law, formula = PLANTED[name]
    fit = fit_law(name, x, formula(x, **law), replicas=20)
    assert fit.params == pytest.approx(law, rel=1e-4)
    assert fit.predict(x) == pytest.approx(formula(x, **law), rel=1e-6)


@pytest.mark.parametrize("name", LAWS)
def test_derivatives_are_those_of_finite_differences(name):
    law, rng = LAWS[name], np.random.default_rng(0)
    x, _, _ = PLANTED[name]
    u = law.encode(x.reshape(len(x), -1))
    u = (u - u.mean(0))[None] if name != "repeated" else (u - [u[:, 0].mean(), 0.0])[None]
    p = rng.uniform(0.2, 0.8, (1, law.starts(u, rng.uniform(-1, 0, u.shape[:2])).shape[-1]))
    _, slopes = predict(law, p, u)
    step = 1e-6 * np.eye(p.shape[1])
    for k in range(p.shape[1]):
        above, below = (predict(law, p + sign * step[k], u)[0] for sign in (1, -1))
        np.testing.assert_allclose(slopes[..., k], (above - below) / 2e-6, rtol=1e-6, atol=1e-8)


def test_noisy_laws_are_recovered_and_their_intervals_cover():
    rng = np.random.default_rng(1)
    errors, covered = [], 0
    for k in range(6):
        x, y, law = planted(rng, 7, 3, 0.005)
        fit = fit_law("power", x, y, replicas=40, seed=k)
        errors.append(abs(fit.params["alpha"] / law["alpha"] - 1))
        covered += fit.interval["alpha"][0] <= law["alpha"] <= fit.interval["alpha"][1]
    assert np.median(errors) < 0.05
    assert covered >= 5
    assert not fit.warnings


def test_one_outlier_does_not_move_the_exponent():
    x, y, law = planted(np.random.default_rng(2), 7, 3, 0.003, (0.1, 5.0, 0.4))
    y[4] *= 1.3
    assert fit_law("power", x, y, replicas=20).params["alpha"] == pytest.approx(law["alpha"], rel=0.05)


@pytest.mark.parametrize("name", ["power", "repeated"])
def test_the_batch_minimiser_ends_as_low_as_scipy_from_many_starts(name):
    law, rng = LAWS[name], np.random.default_rng(3)
    x, params, formula = PLANTED[name]
    u = law.encode(x.reshape(len(x), -1))
    u -= [u[:, 0].mean(), 0.0][: u.shape[1]]
    v = np.log(formula(x, **params)) + 0.03 * rng.standard_normal(len(x))

    def loss(p):
        """In units that suit scipy's tolerances, with its derivatives."""
        log_y, slopes = (a[0] for a in predict(law, p[None], u[None]))
        residual = log_y - v
        weight = np.minimum(1.0, 1e-3 / np.maximum(np.abs(residual), 1e-300)) + 1e-3
        return 1e3 * losses(residual[None])[0], 1e3 * (weight * residual) @ slopes

    bounds = list(zip(*(side[0] for side in law.bounds(u[None], v[None])), strict=True))
    starts = law.starts(u[None], v[None])[0][::9]
    theirs = min(minimize(loss, s, jac=True, method="L-BFGS-B", bounds=bounds).fun for s in starts)
    ours = solve(law, u[None], v[None], None, keep=36)[0]
    assert loss(ours)[0] <= theirs * (1 + 1e-5)


def test_what_all_runs_of_a_seed_share_is_told_from_noise_and_widens_the_asymptote():
    rng = np.random.default_rng(4)
    x = np.repeat(np.geomspace(1e3, 1e7, 6), 4)
    seeds = np.tile(range(4), 6)
    shared = np.array([-0.06, -0.02, 0.02, 0.06])
    y = power(x, 0.2, 5.0, 0.4) * np.exp(shared[seeds] + 0.004 * rng.standard_normal(len(x)))
    fit = fit_law("power", x, y, replicas=100, seeds=seeds)
    assert fit.seed_sd == pytest.approx(shared.std(ddof=1), rel=0.1)
    assert fit.residual_sd == pytest.approx(0.004, rel=0.3)
    low, high = fit.parametric["E"]
    assert high - low > 0.2 * 2 * 0.052 / np.sqrt(4)  # two standard errors of a mean over four seeds
    alone = fit_law("power", x, y, replicas=100)
    assert alone.seed_sd is None
    assert alone.residual_sd == pytest.approx(shared.std(), rel=0.2)


def test_two_seeds_hardly_say_how_far_seeds_spread():
    rng = np.random.default_rng(5)
    x, seeds = np.repeat(np.geomspace(1e3, 1e7, 6), 2), np.tile(range(2), 6)
    y = power(x, 0.2, 5.0, 0.4) * np.exp(np.array([-0.02, 0.02])[seeds] + 0.004 * rng.standard_normal(len(x)))
    low, high = fit_law("power", x, y, replicas=60, seeds=seeds).parametric["E"]
    assert high - low > 3 * 0.2 * 2 * 1.96 * 0.028 / np.sqrt(2)  # thrice what a known spread would leave


@pytest.mark.parametrize("rungs", [3, 4])
def test_less_than_four_rungs_warn_that_exponent_and_asymptote_are_confounded(rungs):
    x, y, _ = planted(np.random.default_rng(4), rungs, 2, 0.02)
    fit = fit_law("power", x, y, replicas=50)
    assert any("confounded" in warning for warning in fit.warnings) == (rungs < 4)
    low, high = fit.interval["alpha"]
    assert high - low > 0.05


def test_few_rungs_of_one_input_are_named():
    x, law, formula = PLANTED["data_model"]
    x = x[np.isin(x[:, 1], np.unique(x[:, 1])[:2])]
    fit = fit_law("data_model", x, formula(x, **law), replicas=20)
    assert [warning for warning in fit.warnings if warning.startswith("2 rungs of model")]


def test_three_runs_have_no_noise_estimate():
    x, y, _ = planted(np.random.default_rng(5), 3, 1, 0.02)
    fit = fit_law("power", x, y, replicas=20)
    assert fit.residual_sd is None
    assert fit.parametric["alpha"] is None
    assert any("noise is unknown" in warning for warning in fit.warnings)


def test_errors_that_rise_with_data_are_called_so():
    x = np.repeat(np.geomspace(1e3, 1e6, 5), 2)
    fit = fit_law("power", x, 0.3 * x**0.05, replicas=20)
    assert fit.params["alpha"] == 0
    assert any("does not fall" in warning for warning in fit.warnings)


def test_the_curve_lies_inside_its_band_and_the_same_seed_gives_the_same_fit():
    x, y, _ = planted(np.random.default_rng(6), 5, 2, 0.02)
    fit = fit_law("power", x, y, replicas=50, seed=3)
    curve = {name: np.array(values) for name, values in fit.curve.items()}
    assert (curve["low"] <= curve["y"]).all()
    assert (curve["y"] <= curve["high"]).all()
    assert fit == fit_law("power", x, y, replicas=50, seed=3)
    assert [replicas.shape for replicas in fit.replicas([1e4, 1e8])] == [(50, 2), (50, 2)]


@pytest.mark.parametrize(("x", "y"), [([1, 2, 3], [1, -1, 1]), ([1, 2, np.inf], [1, 1, 1]), ([1, 1, 2], [1, 1, 1])])
def test_unusable_numbers_are_refused(x, y):
    with pytest.raises(ValueError, match=r"finite and positive|2 rungs of x \(3 are needed\)"):
        fit_law("power", x, y)


def test_wrong_numbers_of_inputs_are_refused():
    with pytest.raises(ValueError, match="takes 2 inputs"):
        fit_law("data_model", [1.0, 2.0, 3.0], [1.0, 1.0, 1.0])


def test_two_seeds_per_rung_have_one_best_curve_between_them():
    x = np.repeat([1e3, 1e4, 1e5], 2)
    middle = power(x, 0.2, 5.0, 0.4)
    fit = fit_law("power", x, middle * np.exp(np.tile([-0.03, 0.03], 3)), replicas=20)
    assert [fit.params["E"], fit.params["alpha"]] == pytest.approx([0.2, 0.4], rel=0.01)
