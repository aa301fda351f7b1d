"""Which rows make a curve, which are left out, and how that is said."""

import json

import numpy as np
import pytest

from alp_jax.core.errors import UserError
from alp_jax.scaling.laws.curves import make_curves, state_best
from alp_jax.scaling.laws.curves_fit import choose_table, fit_groups, write_fits
from alp_jax.scaling.laws.read_table import read_table


def power_law(x, E, A, alpha):
    return E + A * x**-alpha


def ledger_rows(objective="contrastive", metric="accuracy", pairs=(1000, 3000, 10_000, 30_000), seeds=2):
    rows = []
    for n in pairs:
        for seed in range(seeds):
            value = 1 - power_law(n, 0.1, 3.0, 0.3)
            row = {"run": f"{objective}-{n}-{seed}", "objective": objective, "task": "speaker", "pooling": "mean"}
            rows.append({**row, "metric": metric, "pairs": n, "steps": 300, "seed": seed, "value": value + 1e-4 * seed})
    return rows


def test_groups_are_fitted_on_one_minus_value_and_written(tmp_path):
    result = fit_groups(ledger_rows() + ledger_rows("captioning"), replicas=20)[0]
    assert [fit["group"]["objective"] for fit in result["fits"]] == ["captioning", "contrastive"]
    assert result["fits"][0]["params"]["alpha"] == pytest.approx(0.3, rel=0.05)
    assert result["settings"]["y"] == "1 - value"
    files = write_fits(result, tmp_path)
    assert json.loads(files[0].read_text())["fits"][1]["rungs"] == 4
    lines = files[1].read_text().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("objective,task,pooling,metric,E,")


def with_errors(metric, value_of):
    """Rows of which the errors follow one power law, in values of ``metric``."""
    return [row | {"metric": metric, "value": value_of(1 - row["value"])} for row in ledger_rows()]


@pytest.mark.parametrize(
    ("metric", "value_of", "formula"),
    [
        ("cider_d", lambda error: 10 - error, "10 - value"),
        ("median_rank", lambda error: 1 + error, "value - 1"),
        ("loss", lambda error: error, "value"),
    ],
)
def test_errors_are_distances_from_the_best_value_of_the_metric(metric, value_of, formula):
    (fit,), settings = (fit_groups(with_errors(metric, value_of), replicas=20)[0][key] for key in ("fits", "settings"))
    assert fit["params"]["alpha"] == pytest.approx(0.3, rel=0.05)
    assert fit["params"]["E"] == pytest.approx(0.1, abs=0.02)
    assert settings["y"] == formula


def test_of_metrics_that_are_not_ours_the_best_value_is_asked_for():
    rows = with_errors("word_error_rate", lambda error: error)
    asked = r"metric 'word_error_rate' is not known: state .* --best word_error_rate=NUMBER, or .* --y"
    with pytest.raises(UserError, match=asked):
        fit_groups(rows, replicas=20)[0]
    (fit,) = fit_groups(state_best(rows, {"word_error_rate": 0.0}), replicas=20)[0]["fits"]
    assert fit["params"]["alpha"] == pytest.approx(0.3, rel=0.05)
    higher = with_errors("points", lambda error: 100 - error)
    (fit,) = fit_groups(state_best(higher, {"points": 100.0}), replicas=20)[0]["fits"]
    assert fit["params"]["E"] == pytest.approx(0.1, abs=0.02)
    with pytest.raises(UserError, match="some values of points lie below it and others above it"):
        state_best(higher, {"points": 99.7})
    with pytest.raises(UserError, match="did you mean 'points'"):
        state_best(higher, {"point": 100.0})
    nameless = [{key: row[key] for key in row if key != "metric"} for row in rows]
    with pytest.raises(UserError, match=r"no column says which metric a value is of: state .* --best value=NUMBER"):
        fit_groups(nameless, replicas=20)[0]
    assert fit_groups(state_best(nameless, {"value": 0.0}), replicas=20)[0]["settings"]["y"] == "value"


def test_unusable_rows_are_counted_by_reason():
    rows = ledger_rows()
    bad = [dict(rows[0]) for _ in range(9)]
    bad[0].update(run="r0", value=float("nan"))
    bad[1].update(run="r1", value=1.0)
    bad[2].update(run="r2", pairs=0)
    bad[3].update(run="r3", steps=0)
    bad[4].update(run="r4", value=None)
    bad[5].update(run="r5", value=3.0)
    bad[6].update(run="r6", pairs=float("inf"))
    bad[7].update(run="r7", status="failed")
    bad[8].update(run="r8", pairs="many")
    one_rung = ledger_rows("captioning", pairs=(1000,))
    result = fit_groups([*rows, *bad, rows[0], *one_rung], replicas=20)[0]
    reasons = {entry["reason"].split(" (")[0].split(":")[0]: entry for entry in result["excluded"]}
    assert {reason: entry["count"] for reason, entry in reasons.items()} == {
        "value is not finite": 1,
        "error is not positive": 1,
        "pairs is not positive": 1,
        "untrained encoder": 1,
        "value is missing or not a number": 1,
        "value outside 0 to 1": 1,
        "pairs is not finite": 1,
        "status is failed, not done": 1,
        "pairs is missing or not a number": 1,
        "repeated row": 1,
        "group with 1 rung of pairs": 2,
    }
    assert reasons["value is not finite"]["examples"] == ["r0/speaker/mean/accuracy"]
    assert len(result["fits"]) == 1
    assert result["fits"][0]["runs"] == 8


def test_a_csv_with_other_names_is_fitted(tmp_path):
    lines = ["arch,data,samples_seen,loss"]
    lines += [f"small,web,{n:.0f},{power_law(n, 0.5, 40, 0.4):.6f}" for n in np.geomspace(1e4, 1e8, 6)]
    (tmp_path / "other.csv").write_text("\n".join(lines) + "\n")
    rows, problems = read_table(tmp_path / "other.csv")
    result = fit_groups(rows, x="samples_seen", y="loss", group=["arch", "data"], replicas=20)[0]
    assert not problems
    assert result["fits"][0]["params"]["alpha"] == pytest.approx(0.4, rel=0.02)
    assert result["fits"][0]["group"] == {"arch": "small", "data": "web"}


def test_a_law_of_data_and_model_takes_both_columns_and_every_model_in_one_curve(tmp_path):
    rows = []
    for seen in (1e4, 1e5, 1e6, 1e7):
        for params in (1e6, 8e6, 6.4e7):
            error = 0.1 + 5 * seen**-0.3 + 20 * params**-0.35
            row = {"run": f"{seen}-{params}", "objective": "contrastive", "model": f"m{params:.0f}", "task": "speaker"}
            rows.append(row | {"params": params, "samples_seen": seen, "error": error, "seed": 0})
    (fit,) = fit_groups(rows, law="data_model", replicas=20)[0]["fits"]
    assert fit["group"] == {"objective": "contrastive", "task": "speaker"}
    assert [fit["params"][name] for name in ("alpha", "beta")] == pytest.approx([0.3, 0.35], rel=1e-3)
    header = write_fits(fit_groups(rows, law="data_model", replicas=20)[0], tmp_path)[1].read_text().splitlines()[0]
    assert header.startswith("objective,task,E,E_low,E_high,A,A_low,A_high,alpha,alpha_low,alpha_high,B,")
    with pytest.raises(UserError, match="group with 1 rung of params"):
        fit_groups([row for row in rows if row["params"] < 5e6], law="data_model")[0]


def test_laws_are_chosen_for_every_curve():
    rows = ledger_rows(pairs=(1000, 3000, 10_000, 30_000, 100_000)) + ledger_rows("captioning", pairs=(1000, 3000))
    captioning, contrastive = choose_table(rows)["choices"]
    assert contrastive["law"] == "power"
    assert contrastive["group"]["objective"] == "contrastive"
    assert captioning["law"] is None
    assert captioning["refused"]["power"] == "without the top rung: 1 rung of x (3 are needed)"
    with pytest.raises(UserError, match="no law takes more than 2 columns"):
        choose_table(rows, x=("pairs", "seed", "steps"))


def test_epochs_follow_from_pairs_and_samples():
    rows = [row | {"samples_seen": 12_000} for row in ledger_rows()]
    (curve,), _ = make_curves(rows, ("unique", "epochs"))
    np.testing.assert_array_equal(curve.x[::2], [[1000, 12], [3000, 4], [10_000, 1.2], [12_000, 1]])


def test_training_seeds_are_told_to_the_fit():
    shifted = [row | {"value": row["value"] - 0.02 * row["seed"]} for row in ledger_rows(seeds=3)]
    (fit,) = fit_groups(shifted, replicas=20)[0]["fits"]
    assert fit["seed_sd"] > 3 * fit["residual_sd"]


def test_a_rung_that_only_this_curve_lacks_is_named():
    rows = ledger_rows() + ledger_rows("captioning", pairs=(1000, 3000, 30_000))
    captioning, contrastive = fit_groups(rows, replicas=20)[0]["fits"]
    assert "no usable run at pairs 10000, which other curves of the task have" in captioning["warnings"]
    assert not any("no usable run" in warning for warning in contrastive["warnings"])


def test_a_run_with_two_results_is_refused():
    rows = ledger_rows()
    with pytest.raises(UserError, match=r"contrastive-1000-0/speaker/mean/accuracy is in the table twice, with value"):
        fit_groups([*rows, rows[0] | {"value": 0.5}])[0]


def test_runs_that_a_sweep_lost_are_named(tmp_path):
    (tmp_path / "ledger.csv").write_text("run,x,y\na,1,2\n")
    runs = [{"id": "a", "status": "done"}, {"id": "b", "status": "failed"}]
    (tmp_path / "sweep.json").write_text(json.dumps({"runs": runs}))
    assert read_table(tmp_path / "ledger.csv")[1] == ["run b of sweep.json is failed: its points are missing"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": "pears"}, "no column 'pears' (nearest: 'pairs'"),
        ({"y": "vale"}, "nearest: 'value'"),
        ({"group": ["objectiv"]}, "nearest: 'objective'"),
        ({"group": ["task"]}, "task=speaker mixes objective captioning and contrastive: add objective to --group"),
        ({"x": "seed"}, "nothing can be fitted"),
        ({"law": "powr"}, "did you mean 'power'?"),
        ({"law": "data_model", "x": "pairs"}, "law data_model takes 2 columns, for data and model"),
        ({"law": "broken"}, "group with 4 rungs of pairs (5 are needed)"),
    ],
)
def test_mistakes_name_the_column(change, words):
    with pytest.raises(UserError) as caught:
        fit_groups(ledger_rows() + ledger_rows("captioning"), replicas=20, **change)[0]
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "", "has no rows"),
        ("a.csv", "x,x\n1,2\n", "names the column 'x' twice"),
        ("a.csv", "x,y\n1,2,3\n", "line 2 does not have as many cells"),
        ("a.txt", "x", "expected a .jsonl ledger or a .csv"),
        ("a.jsonl", "garbage\n", "line 1 is damaged"),
        ("missing.csv", None, "does not exist"),
    ],
)
def test_tables_that_cannot_be_read_are_named(tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as caught:
        read_table(tmp_path / name)
    assert words in str(caught.value)
    assert name in str(caught.value)
