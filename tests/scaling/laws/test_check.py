"""The small form of ``alp scaling check``: planted laws are found, and the table says where they are not."""

import json

import numpy as np
import pytest

from alp_jax.cli import main as cli
from alp_jax.scaling.laws import check
from alp_jax.scaling.laws.check import PLANTS, check_laws, table_text


@pytest.fixture(scope="module")
def outcome():
    (found,) = check_laws(["power"], [6], [0.01], planted=10, seeds=2, replicas=30)
    return found


def test_planted_exponents_are_found_and_covered(outcome):
    assert outcome.met
    assert outcome.error < 0.05
    assert outcome.coverage >= 0.9
    assert 0.01 < outcome.width < 0.5


def test_intervals_that_are_too_narrow_miss_the_target(outcome, monkeypatch):
    fit_law = check.fit_law

    def narrow(*args, **kwargs):
        fit = fit_law(*args, **kwargs)
        middle = fit.params["alpha"]
        fit.interval["alpha"] = tuple(middle + (end - middle) / 6 for end in fit.interval["alpha"])
        return fit

    monkeypatch.setattr(check, "fit_law", narrow)
    (found,) = check_laws(["power"], [6], [0.01], planted=5, seeds=2, replicas=30)
    assert found.error < 0.05
    assert found.coverage < 0.8
    assert not found.met
    assert table_text([outcome, found]).splitlines()[2].endswith("missed")
    assert not table_text([outcome, found]).splitlines()[1].endswith("missed")


@pytest.mark.parametrize("law", PLANTS)
def test_every_planted_form_is_what_is_fitted(law):
    found = check_laws([law], [6], [0.0], planted=1, seeds=1, replicas=20)
    assert [o.exponent for o in found] == list(PLANTS[law].exponents)
    np.testing.assert_allclose([o.error for o in found], 0, atol=1e-3)


def test_the_command_prints_the_table_and_fails_where_a_target_is_missed(outcome, monkeypatch, capsys, tmp_path):
    asked = []

    def answer(laws, rungs, noises, **settings):
        asked.append((laws, rungs, noises, settings))
        return [outcome]

    monkeypatch.setattr(check, "check_laws", answer)
    command = ["scaling", "check", "--rungs", "4,6", "--noise", "0.01", "--planted", "20", "--replicas", "30"]
    assert cli.main(command) == 0
    assert asked == [(["power"], [4, 6], [0.01], {"planted": 20, "seeds": 3, "replicas": 30})]
    assert "missed" not in capsys.readouterr().out
    monkeypatch.setattr(check, "MAX_ERROR", 1e-9)
    assert cli.main([*command, "--out", str(tmp_path / "c.json")]) == 1
    printed = capsys.readouterr()
    assert "missed" in printed.out
    assert "1 of 1 lines miss" in printed.err
    assert json.loads((tmp_path / "c.json").read_text())["outcomes"][0]["met"] is False


@pytest.mark.parametrize("wrong", [["--rungs", "2"], ["--noise", "-1"], ["--rungs", "four"], ["--law", "powr"]])
def test_wrong_settings_are_refused(wrong, capsys):
    assert cli.main(["scaling", "check", *wrong]) == 2
    assert wrong[0][2:] in capsys.readouterr().err
