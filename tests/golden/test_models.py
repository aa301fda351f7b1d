"""Whole models against the reference by the code that ``alp golden`` runs, and that every kind of case is tested."""

import pathlib

import pytest

from alp_jax.golden.case import find_cases
from alp_jax.golden.runner import CHECKERS, run_case

GOLDEN = pathlib.Path(__file__).parent / "vectors"
MODELS = sorted(path.name for path in (GOLDEN / "models").iterdir())
# Folders whose cases are all run by the tests of their own parts of the suite.
TESTED = ("models", "modules", "fbank", "schedules", "spec_augment", "../../optim/golden")
WRITTEN = {"init_stats", "retrieval", "text_clean"}  # cases that test_golden_modules and test_golden_recipe write


@pytest.mark.parametrize("name", MODELS)
def test_model_equals_the_reference(drawn, name):
    result = run_case(drawn.cases[name])
    assert result.ok, (result.problem, [str(line) for line in result.lines if not line.ok])


def test_every_kind_of_case_is_tested():
    stored = {case.config["kind"] for folder in TESTED for case in find_cases(GOLDEN / folder)}
    assert stored | WRITTEN == CHECKERS.keys()
