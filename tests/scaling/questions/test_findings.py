"""Ledgers in which the findings of the paper are planted true, planted false, or cannot be told."""

import numpy as np
import pytest

from alp_jax.scaling.laws.curves_fit import fit_groups
from alp_jax.scaling.questions.findings import (
    EFFICIENT,
    FADES,
    FASTER,
    HELD,
    NOT_HELD,
    POOLING,
    UNDECIDED,
    Evidence,
    paper_verdicts,
)

PAIRS = np.geomspace(1e3, 1e6, 5)


def law(n, lead=0.0, steeper=0.0):
    """``lead``: log of what is taken off the error; ``steeper``: more of it per tenfold pairs."""
    return (0.1 + 2 * n**-0.25) * np.exp(-lead - steeper * np.log10(n / 1e3))


def ledger(curves, noise=0.003, seeds=2):
    """Rows of (objective, init, task, pooling) -> settings of ``law``."""
    rng, rows = np.random.default_rng(0), []
    for (objective, init, task, pooling), settings in curves.items():
        for n in PAIRS:
            for seed in range(seeds):
                error = law(n, **settings) * np.exp(noise * rng.standard_normal())
                row = {"run": f"{objective}-{init}-{n:.0f}-{seed}", "objective": objective, "init": init, "model": "m"}
                row |= {"task": task, "pooling": pooling, "metric": "accuracy", "pairs": n, "seed": seed, "steps": 1}
                rows.append(row | {"value": 1 - error})
    return rows


def planted(sign):
    """The findings as the paper has them (+1), or the other way round (-1)."""
    contrastive = {"lead": 0.2 * sign}
    language = ("text_to_audio", "linear_alignment")
    return {
        ("contrastive", "scratch", "speaker", "mean"): contrastive,
        ("captioning", "scratch", "speaker", "mean"): {},
        ("contrastive", "scratch", "speaker", "attention"): {"lead": 0.05 * sign},
        ("captioning", "scratch", "speaker", "attention"): {},
        ("contrastive", "scratch", *language): {},
        ("captioning", "scratch", *language): {"lead": -0.05, "steeper": 0.05 * sign},
        ("contrastive", "audioset", "speaker", "mean"): {"lead": 0.2 * sign + 0.3 * sign, "steeper": -0.1 * sign},
    }


def verdicts(curves, **settings):
    return {v.finding: v for v in paper_verdicts(fit_groups(ledger(curves, **settings), replicas=40)[1])}


@pytest.fixture(scope="module")
def true():
    return verdicts(planted(1))


def test_planted_findings_are_held_with_their_numbers(true):
    assert {name: v.verdict for name, v in true.items()} == dict.fromkeys((EFFICIENT, FASTER, FADES, POOLING), HELD)
    lead = next(e for e in true[EFFICIENT].evidence if e.title == "Speaker, mean pooling")
    assert lead.value == pytest.approx(0.2, abs=0.01)
    assert lead.interval[0] < 0.2 < lead.interval[1]
    assert true[FASTER].evidence[0].value == pytest.approx(0.05, abs=0.01)
    gain, loss = true[FADES].evidence
    assert gain.value == pytest.approx(0.3, abs=0.02)
    assert loss.value == pytest.approx(0.1, abs=0.01)
    assert true[POOLING].evidence[1].value == pytest.approx(0.15, abs=0.02)
    assert "on language tasks" in true[EFFICIENT].because


def test_the_contrary_is_not_held():
    found = verdicts(planted(-1))
    assert {name: v.verdict for name, v in found.items()} == dict.fromkeys(found, NOT_HELD)


def test_objectives_alike_in_noise_are_undecided():
    found = verdicts({key: {} for key in planted(1)}, noise=0.03)
    assert {found[name].verdict for name in (EFFICIENT, FASTER, POOLING)} == {UNDECIDED}
    assert [Evidence("", value, (value - 0.2, value + 0.2)).verdict for value in (0.1, -0.1)] == [UNDECIDED] * 2


def test_missing_runs_leave_a_finding_undecided_and_are_named(true):
    alone = {key: value for key, value in planted(1).items() if key[0] == "contrastive" and key[1] == "scratch"}
    found = verdicts(alone)
    assert {v.verdict for v in found.values()} == {UNDECIDED}
    assert found[FADES].because == "no curves of 3 rungs of a start and scratch"
    assert [v.verdict for v in paper_verdicts([])] == [UNDECIDED] * 4


def test_curves_without_a_common_range_are_not_compared():
    rows = ledger({key: value for key, value in planted(1).items() if key[2:] == ("speaker", "mean")})
    for row in rows:
        row["pairs"] *= 1e6 if row["objective"] == "captioning" else 1
    found = {v.finding: v for v in paper_verdicts(fit_groups(rows, replicas=20)[1])}
    assert found[EFFICIENT].because == "no curves of 3 rungs of contrastive and captioning from scratch on a probe"
