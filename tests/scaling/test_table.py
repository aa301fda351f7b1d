"""Which rows make a curve, which are left out, and how that is said."""

import json

import numpy as np
import pytest

from alp_jax.core.errors import UserError
from alp_jax.scaling.fit import power_law
from alp_jax.scaling.table import fit_table, read_table, write_fits


def ledger_rows(objective="contrastive", metric="accuracy", pairs=(1000, 3000, 10_000, 30_000), seeds=2):
    rows = []
    for n in pairs:
        for seed in range(seeds):
            value = 1 - power_law(n, 0.1, 3.0, 0.3)
            row = {"run": f"{objective}-{n}-{seed}", "objective": objective, "task": "speaker", "pooling": "mean"}
            rows.append({**row, "metric": metric, "pairs": n, "steps": 300, "seed": seed, "value": value + 1e-4 * seed})
    return rows


def test_groups_are_fitted_on_one_minus_value_and_written(tmp_path):
    result = fit_table(ledger_rows() + ledger_rows("captioning"), replicas=20)
    assert [fit["group"]["objective"] for fit in result["fits"]] == ["captioning", "contrastive"]
    assert result["fits"][0]["alpha"] == pytest.approx(0.3, rel=0.05)
    assert result["settings"]["y"] == "1 - value"
    files = write_fits(result, tmp_path)
    assert json.loads(files[0].read_text())["fits"][1]["rungs"] == 4
    lines = files[1].read_text().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("objective,task,pooling,metric,E,")


def test_unusable_rows_are_counted_by_reason():
    rows = ledger_rows()
    bad = [dict(rows[0]) for _ in range(6)]
    bad[0].update(run="r0", value=float("nan"))
    bad[1].update(run="r1", value=1.0)
    bad[2].update(run="r2", pairs=0)
    bad[3].update(run="r3", steps=0)
    bad[4].update(run="r4", value=None)
    bad[5].update(run="r5", value=3.0)
    one_rung = ledger_rows("captioning", pairs=(1000,))
    result = fit_table([*rows, *bad, rows[0], *one_rung], replicas=20)
    reasons = {entry["reason"].split(" (")[0].split(":")[0]: entry for entry in result["excluded"]}
    assert {reason: entry["count"] for reason, entry in reasons.items()} == {
        "value is not finite": 1,
        "error is not positive": 1,
        "pairs is not positive": 1,
        "untrained encoder": 1,
        "value is missing or no number": 1,
        "value outside 0 to 1": 1,
        "repeated row": 1,
        "group with 1 rung of pairs": 2,
    }
    assert reasons["value is not finite"]["examples"] == ["r0/speaker/mean/accuracy"]
    assert len(result["fits"]) == 1
    assert result["fits"][0]["runs"] == 8


def test_a_csv_with_other_names_is_fitted(tmp_path):
    lines = ["arch,samples_seen,loss"]
    lines += [f"small,{n:.0f},{power_law(n, 0.5, 40, 0.4):.6f}" for n in np.geomspace(1e4, 1e8, 6)]
    (tmp_path / "other.csv").write_text("\n".join(lines) + "\n")
    rows, problems = read_table(tmp_path / "other.csv")
    result = fit_table(rows, x="samples_seen", y="loss", group=["arch"], replicas=20)
    assert not problems
    assert result["fits"][0]["alpha"] == pytest.approx(0.4, rel=0.02)
    assert result["fits"][0]["group"] == {"arch": "small"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": "pears"}, "no column 'pears' (nearest: 'pairs'"),
        ({"y": "vale"}, "nearest: 'value'"),
        ({"group": ["objectiv"]}, "nearest: 'objective'"),
        ({"group": ["task"]}, "task=speaker mixes objective captioning and contrastive: add objective to --group"),
        ({"x": "seed"}, "nothing can be fitted"),
    ],
)
def test_mistakes_name_the_column(change, words):
    with pytest.raises(UserError) as caught:
        fit_table(ledger_rows() + ledger_rows("captioning"), replicas=20, **change)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "", "has no rows"),
        ("a.csv", "x,y\n1,2,3\n", "line 2 has another number of cells"),
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
