"""Planted answers to the questions that fitted laws are asked."""

import numpy as np
import pytest

from alp_jax.core.errors import UserError
from alp_jax.scaling.questions.budget import ask_budget
from alp_jax.scaling.questions.crossover import ask_crossover
from alp_jax.scaling.questions.equivalent import ask_equivalent
from alp_jax.scaling.questions.next_run import ask_next_run
from alp_jax.scaling.questions.sources import add_sources, ask_sources

PAIRS = (1e3, 4e3, 1.6e4, 6.4e4, 2.56e5)
NOISE = 0.004


def runs(name, law, pairs=PAIRS, seeds=3, noise=NOISE, **columns):
    """Table rows of runs whose error is ``law(pairs)`` with log-normal noise."""
    rng = np.random.default_rng(sum(map(ord, f"{name}{columns}")))
    rows = []
    for n in pairs:
        for seed in range(seeds):
            row = {"run": f"{name}-{columns}-{n:.0f}-{seed}", "objective": name, "init": "scratch", "task": "speaker"}
            row |= {"pooling": "mean", "metric": "accuracy", "pairs": n, "seed": seed}
            rows.append(row | {"error": law(n) * np.exp(noise * rng.standard_normal())} | columns)
    return rows


def early(n):
    return 0.2 + 1.5 * n**-0.25


def late(n):
    return 0.1 + 3 * n**-0.28


def test_the_crossover_of_planted_laws_is_found_inside_its_interval():
    grid = np.geomspace(1e3, 1e9, 2_000_001)
    truth = grid[np.argmax(late(grid) < early(grid))]
    (found,) = ask_crossover(runs("early", early) + runs("late", late), "early", "late", replicas=30)
    assert found.ahead == "early"
    assert found.at == pytest.approx(truth, rel=0.2)
    assert found.interval[0] < truth < found.interval[1]
    assert found.probability > 0.9
    assert "late overtakes early" in str(found)
    (swapped,) = ask_crossover(runs("early", early) + runs("late", late), "late", "early", replicas=30)
    assert swapped.at == pytest.approx(found.at)
    assert swapped.ahead == "early"


def test_laws_that_do_not_meet_have_no_crossover_within_the_limit():
    rows = runs("early", early) + runs("worse", lambda n: 1.3 * early(n))
    (found,) = ask_crossover(rows, "early", "worse", limit=1e8, replicas=30)
    assert found.at is None
    assert found.interval == (None, None)
    assert found.probability == 0
    assert str(found).startswith("none within 10^8 pairs, early stays ahead [beyond 10^8, beyond 10^8]")


def test_a_crossover_beyond_the_runs_is_called_an_extrapolation():
    (found,) = ask_crossover(
        runs("early", early) + runs("late", lambda n: 0.1 + 8 * n**-0.28), "early", "late", replicas=30
    )
    assert found.at > 5 * PAIRS[-1]
    assert found.warnings[-1].endswith("times beyond the largest measured input: an extrapolation")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"b": "lat"}, "no usable run has objective 'lat' (did you mean 'late'?)"),
        ({"column": "objectives"}, "not told apart by 'objectives' (did you mean 'objective'?)"),
        ({"x": "seed"}, "seed is not positive"),
    ],
)
def test_wrong_questions_are_refused(change, words):
    with pytest.raises(UserError) as caught:
        ask_crossover(runs("early", early) + runs("late", late), **({"a": "early", "b": "late"} | change))
    assert words in str(caught.value)


def test_a_start_that_is_worth_ten_times_the_data_is_called_so_and_one_that_fades_too():
    scratch = runs("contrastive", early)
    tenfold = runs("contrastive", lambda n: early(10 * n), init="audioset")
    (found,) = ask_equivalent(scratch + tenfold, "audioset", replicas=30)
    assert [rung.pairs for rung in found.rungs] == list(PAIRS)
    assert [rung.ratio for rung in found.rungs] == pytest.approx([10] * 5, rel=0.25)
    assert sum(rung.interval[0] < 10 * rung.pairs < rung.interval[1] for rung in found.rungs) >= 4
    assert found.rungs[0].interval[1] - found.rungs[0].interval[0] > 0.01 * found.rungs[0].equivalent
    fading = runs("contrastive", lambda n: early(n) * (1 - 0.1 * (1e3 / n) ** 0.5), init="audioset")
    (faded,) = ask_equivalent(scratch + fading, "audioset", replicas=30)
    assert faded.gain[0] == pytest.approx(0.105, abs=0.01)
    assert faded.gain[-1] == pytest.approx(0.006, abs=0.01)
    assert faded.fade_interval[0] < faded.fade < faded.fade_interval[1] < 0


def test_an_error_that_scratch_never_reaches_is_worth_no_amount_of_data():
    better = runs("contrastive", lambda n: 0.5 * early(1e5 * n), init="audioset")
    (found,) = ask_equivalent(runs("contrastive", early) + better, "audioset", replicas=30)
    assert found.rungs[-1].equivalent is None
    assert "worth no amount [no amount, no amount]" in str(found.rungs[-1])
    with pytest.raises(UserError, match="did you mean 'audioset'"):
        ask_equivalent(runs("contrastive", early) + better, "audiset")
    (alone,) = ask_equivalent(runs("contrastive", early) + better[:3], "audioset", replicas=30)
    assert "one rung of the start" in alone.warnings[-1]


def test_sources_are_valued_beside_as_many_pairs_and_alone():
    rows = runs("contrastive", early, sources="")
    top = PAIRS[-1]
    rows += runs("contrastive", lambda n: early(n) * 1.1, pairs=(top / 4,), sources="-speech")
    rows += runs("contrastive", early, pairs=(top / 4,), sources="-noise")
    rows += runs("contrastive", lambda n: early(n) * 1.5, pairs=(top / 4,), sources="speech")
    rows += runs("contrastive", early, pairs=(top / 2,), sources="speech,noise")
    (found,) = ask_sources(rows, replicas=30)
    assert [worth.source for worth in found.sources] == ["speech", "noise"]
    assert found.everything == 3
    speech, noise = found.sources
    fewer = np.log(early(top / 4) / early(top))
    assert speech.without == pytest.approx(fewer + np.log(1.1), abs=0.01)
    assert speech.beyond_pairs == pytest.approx(np.log(1.1), abs=0.01)
    assert speech.beyond_interval[0] > 0
    assert noise.without_interval[0] > 0
    assert noise.beyond_interval[0] < 0 < noise.beyond_interval[1]
    assert speech.alone == pytest.approx(fewer + np.log(1.5), abs=0.01)
    assert noise.alone is None
    assert "3 runs of other mixtures are not used" in found.warnings
    assert str(speech).startswith("speech: without it +")
    with pytest.raises(UserError, match="no group has runs with every source"):
        ask_sources([row for row in rows if row["sources"]])


def test_sources_come_from_the_runs_beside_a_ledger(tmp_path):
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "config.json").write_text('{"data": {"sources": "-bells"}}')
    assert add_sources([{"run": "a"}], tmp_path / "ledger.csv") == [{"run": "a", "sources": "-bells"}]
    with pytest.raises(UserError, match=r"no column 'sources', and .*config\.json does not say the sources of b"):
        add_sources([{"run": "b"}], tmp_path / "ledger.csv")


def sized_runs(name, E, A, alpha, B, beta):
    rng = np.random.default_rng(5)
    rows = []
    for samples in np.geomspace(1e4, 1e7, 5):
        for params in np.geomspace(1e6, 1e9, 4):
            error = E + A * samples**-alpha + B * params**-beta
            row = {"run": f"{name}-{samples}-{params}", "objective": name, "model": f"{params}", "task": "speaker"}
            row |= {"samples_seen": samples, "params": params, "flops": 6 * params * samples}
            rows.append(row | {"error": error * np.exp(0.002 * rng.standard_normal())})
    return rows


@pytest.fixture(scope="module")
def sized():
    return sized_runs("contrastive", 0.1, 5, 0.3, 20, 0.3) + sized_runs("captioning", 0.1, 7, 0.3, 30, 0.3)


def test_the_best_size_for_a_budget_is_the_planted_one(sized):
    budget = 6e14
    (answer,) = ask_budget(sized, budget, replicas=30)
    best, other = answer.plans
    sizes = np.geomspace(1e6, 1e9, 100_000)
    error = 0.1 + 5 * (budget / (6 * sizes)) ** -0.3 + 20 * sizes**-0.3
    assert best.objective == "contrastive"
    assert best.params == pytest.approx(sizes[error.argmin()], rel=0.15)
    assert best.params_interval[0] < sizes[error.argmin()] < best.params_interval[1]
    assert best.params_interval[1] < 3 * best.params_interval[0]
    assert best.error == pytest.approx(error.min(), rel=0.01)
    assert best.samples == pytest.approx(budget / (6 * best.params), rel=1e-6)
    assert (best.wins, other.wins) == (1, 0)
    assert not any("outside" in warning for warning in best.warnings)


def test_budgets_beyond_the_runs_and_without_sizes_say_so(sized):
    (answer,) = ask_budget(sized[:20], 1e22, replicas=20)
    assert "the best size is the largest that was run: others may be better" in answer.plans[0].warnings
    assert any("samples lie outside" in warning for warning in answer.plans[0].warnings)
    (single,) = ask_budget([row for row in sized if row["params"] == 1e6], 6e12, replicas=20)
    assert "one model size: the best size is unknown" in single.plans[0].warnings
    assert single.plans[0].samples == pytest.approx(1e6)
    with pytest.raises(UserError, match="a budget must be above 0"):
        ask_budget(sized, 0)
    with pytest.raises(UserError, match="flops are missing or not positive"):
        ask_budget([row | {"flops": 0} for row in sized], 1e12)


def timed(rows):
    return [row | {"wall_seconds": 3.6 * row["pairs"] / 100} for row in rows]  # 1e5 pairs: an hour


def test_the_next_run_is_the_affordable_one_that_tells_most():
    rows = timed(runs("contrastive", early, pairs=PAIRS[:4], noise=0.01))
    (rich,) = ask_next_run(rows, 1000.0, ask="E", replicas=30)
    assert rich.candidates[0].x == 10 * PAIRS[3]  # the asymptote is seen best from far out
    assert rich.candidates[0].hours == pytest.approx(6.4, rel=1e-3)
    assert rich.candidates[0].left < 0.7
    assert not rich.candidates[0].again
    assert rich.too_expensive == 0
    (poor,) = ask_next_run(rows, 1.0, ask="E", replicas=30)
    assert max(candidate.hours for candidate in poor.candidates) <= 1.0
    assert poor.too_expensive == len(rich.candidates) - len(poor.candidates) > 0
    assert poor.candidates[0].left > rich.candidates[0].left
    near = {c.x: c.left for c in ask_next_run(rows, 1000.0, ask="1000", replicas=30)[0].candidates}
    assert min(near, key=near.get) == 1000.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"budget_device_hours": 1e-9}, "pays for none of the"),
        ({"budget_device_hours": -1.0}, "a budget must be above 0"),
        ({"ask": "gamma"}, "expected E, A, alpha or an input above 0"),
        ({"rows": runs("contrastive", early)}, "no column 'wall_seconds'"),
        ({"rows": timed(runs("contrastive", early, pairs=PAIRS[:3], seeds=1))}, "no more runs than parameters"),
    ],
)
def test_plans_that_cannot_be_made_are_refused(change, words):
    settings = {"rows": timed(runs("contrastive", early)), "budget_device_hours": 10.0} | change
    with pytest.raises(UserError) as caught:
        ask_next_run(**settings, replicas=20)
    assert words in str(caught.value)
