"""Held-out rungs, crossovers, ablations and cost: planted ones are found, and the page of a whole study shows them."""

import functools
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from alp_jax.core.errors import UserError
from alp_jax.scaling import glossary as words
from alp_jax.scaling.laws.curves import make_curves
from alp_jax.scaling.laws.curves_fit import fit_curves
from alp_jax.scaling.laws.read_table import read_table
from alp_jax.scaling.questions import held_out
from alp_jax.scaling.questions.crossings import find_crossings
from alp_jax.scaling.questions.held_out import hold_out
from alp_jax.scaling.report import study as report
from alp_jax.scaling.report.against_floor import against_floor
from alp_jax.scaling.report.costs import make_costs
from alp_jax.scaling.report.figures import PALETTE, make_styles, panel_svg, standalone
from alp_jax.scaling.report.page import write_report
from alp_jax.scaling.report.sections.ablations import ablations, gain
from alp_jax.scaling.report.summary import make_panels, typed_rows
from alp_jax.scaling.report.variants import add_variants
from alp_jax.scaling.sweep.ledger import collect
from tests.scaling import study

ONE = {"objectives": ("captioning",), "inits": ("scratch",), "seeds": (0,)}
PAIRS = (1000, 4000, 16_000, 64_000)


def ledger_rows(objective="contrastive", law=lambda n: 0.1 + 3.0 * n**-0.3, noise=0.003, seeds=(0, 1), **columns):
    """Rows of one curve whose error is ``law`` of pairs, with log noise."""
    rng = np.random.default_rng(len(objective))
    common = {"objective": objective, "init": "scratch", "model": "m", "task": "speaker", "pooling": "mean"}
    common |= {"metric": "accuracy", "steps": 300, "chance": 0.1, "floor": 0.2, "params": 1000, "flops": 1e9}
    common |= {"samples_seen": 9600, "audio_seconds": 2e4, "wall_seconds": 10.0} | columns
    rows = []
    for n in PAIRS:
        for seed in seeds:
            value = 1 - law(n) * np.exp(noise * rng.standard_normal())
            run = f"{objective}-{n}-{seed}-" + "-".join(map(str, columns.values()))
            around = {"value": value, "interval_low": value - 0.01, "interval_high": value + 0.01}
            rows.append(common | around | {"run": run, "pairs": n, "seed": seed})
    return rows


@pytest.fixture(autouse=True)
def few_replicas(monkeypatch):
    monkeypatch.setattr(report, "fit_groups", functools.partial(report.fit_groups, replicas=20))
    monkeypatch.setattr(held_out, "_REPLICAS", 20)


def test_a_law_foretells_its_top_rung_and_not_one_that_breaks():
    curves, _ = make_curves(ledger_rows(), ("pairs",))
    (kept,) = hold_out(curves)
    assert kept.pairs == 64_000
    assert kept.runs == 2
    assert kept.predicted == pytest.approx(0.1 + 3.0 * 64_000**-0.3, rel=0.1)  # three rungs leave the asymptote open
    assert kept.inside
    (broken,) = hold_out(
        make_curves(ledger_rows(law=lambda n: 1.8 * n**-0.2 * (2 if n == 64_000 else 1)), ("pairs",))[0]
    )
    assert not broken.inside
    assert np.log(broken.predicted / broken.measured) == pytest.approx(-np.log(2), abs=0.2)
    assert hold_out(make_curves([row for row in ledger_rows() if row["pairs"] < 64_000], ("pairs",))[0]) == []


def test_a_planted_crossover_is_found_where_it_is():
    rows = ledger_rows(law=lambda n: 2.0 * n**-0.2) + ledger_rows("captioning", law=lambda n: 8.0 * n**-0.35)
    curves, excluded = make_curves(rows, ("pairs",))
    crossings = find_crossings(fit_curves(curves, "power", ("pairs",), excluded, 20, 0))
    ((crossing,),) = crossings.values()
    truth = 4.0 ** (1 / 0.15)  # 2 n^-0.2 = 8 n^-0.35
    assert list(crossings) == [("captioning", "contrastive")]
    assert crossing.ahead == "contrastive"
    assert crossing.at == pytest.approx(truth, rel=0.15)
    assert crossing.interval[0] < truth < crossing.interval[1]


def hybrid_sweep():
    """Rows and configurations of a sweep over the contrastive share; 0.75 is 0.05 better in every run."""
    rows, configs = [], {}
    for share, shift in ((0.25, 0.0), (0.75, 0.05)):
        mine = ledger_rows("hybrid", lambda n, shift=shift: 0.1 + 3.0 * n**-0.3 - shift, noise=0.0, share=share)
        for row in mine:
            steps = row["pairs"] // 10  # follows from the pairs
            configs[row["run"]] = {"seed": row["seed"], "objective": {"share": share}, "train": {"steps": steps}}
        rows += mine
    return rows, configs


def test_runs_that_differ_in_a_setting_are_curves_of_their_own():
    rows, configs = hybrid_sweep()
    assert add_variants(rows, configs) == ["objective.share"]
    (panel,) = make_panels(rows)
    assert list(panel.curves) == ["hybrid, share 0.25", "hybrid, share 0.75"]
    assert [len(point.values) for point in panel.curves["hybrid, share 0.75"]] == [2] * 4


def test_an_ablation_compares_matched_runs_alone():
    rows, configs = hybrid_sweep()
    rows = [row for row in rows if not (row["share"] == 0.25 and row["pairs"] == 64_000)]  # 0.75 alone has this rung
    settings = add_variants(rows, configs)
    (table,) = ablations(rows, settings)
    assert (table.axis, table.base, table.columns) == ("objective.share", "0.75", ["All probes", "Speaker"])
    found = table.rows["0.25"][0]
    assert found.pairs == 6
    assert found.mean == pytest.approx(-0.05)
    assert found.verdict == "worse"


def test_the_interval_of_a_gain_is_students():
    assert gain([0.1]).verdict == "undecided"
    found = gain([0.01, 0.02, 0.03])
    assert found.mean == pytest.approx(0.02)
    assert found.high - found.mean == pytest.approx(4.302653 * 0.01 / 3**0.5, rel=1e-6)


def test_costs_are_means_of_a_run():
    first, second = make_costs(ledger_rows() + ledger_rows("captioning", flops=3e9, wall_seconds=20.0))[::4]
    assert (first.curve, first.runs, first.clips, first.audio) == ("contrastive", 2, 960.0, 2000.0)
    assert (second.curve, second.flops, second.seconds) == ("captioning", 3e9, 20.0)
    assert first.score == pytest.approx(1 - 0.1 - 3 * 1000**-0.3, rel=0.02)


def test_a_table_of_text_makes_the_panels_of_the_ledger(tmp_path):
    folder = study.write_study(tmp_path / "s", rungs=(2000, 8000), **ONE)
    rows, _ = read_table(folder / "ledger.csv")
    assert make_panels(typed_rows(rows)) == make_panels(read_table(folder / "ledger.jsonl")[0])
    with pytest.raises(UserError, match="steps 'many' is not a number"):
        typed_rows([rows[0] | {"steps": "many"}])


def test_a_drawing_outside_a_page_has_its_own_colours():
    (panel,) = make_panels(ledger_rows())
    svg = standalone(panel_svg(panel, make_styles(["contrastive"]), {}, {}, "x"))
    assert "var(" not in svg
    assert PALETTE["--series-0"][0] in svg
    ElementTree.fromstring(svg)


def test_curves_of_one_objective_share_its_colour():
    styles = make_styles(["contrastive, from scratch", "contrastive, from x", "captioning, from scratch"])
    assert [(s.color, s.dash) for s in styles.values()] == [(0, 0), (0, 1), (1, 0)]
    assert [s.color for s in make_styles(["a", "b"]).values()] == [0, 1]
    assert [(s.color, s.dash) for s in make_styles([f"a, {i}" for i in range(8)]).values()][6:] == [(0, 1), (1, 1)]


def test_the_page_of_a_study_has_every_section_and_explains_its_words(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "PROBES", {"speaker": study.PROBES["speaker"]})  # fits are what takes the time
    folder = study.write_study(tmp_path / "study", objectives=("contrastive", "captioning"), seeds=(0, 1))
    ledger = (folder / "ledger.jsonl").read_bytes()
    page, text = (file.read_text() for file in write_report(folder, tmp_path))
    assert (folder / "ledger.jsonl").read_bytes() == ledger
    for section in ("findings", "curves", "crossovers", "ablations", "tables", "fits", "cost", "corpus", "limits"):
        assert f'<section id="{section}">' in page
        assert f'href="#{section}"' in page
    assert len(re.findall('class="verdict (?:better|worse|undecided)"', page)) == 4
    assert page.count("<svg") == (2 + 2 * 2) + 1 + 1  # panels, crossovers, cost
    assert re.search(r"\d+ of 20 measured means lie in the predicted 95% interval", page)
    assert "Start, against scratch" in page
    assert "## Cost" in text
    assert "## Crossovers, captioning and contrastive" in text
    before_settings = page[: page.index('<section id="settings">')]
    shown = re.sub(r"<(svg|style|code)\b.*?</\1>|<[^>]+>", " ", before_settings, flags=re.S)
    acronyms = set(re.findall(r"\b[A-Z][A-Za-z]*[A-Z][A-Za-z]*(?:@\d+)?\b|\bR@\d+", shown)) - {"UTC"}
    glossary = " ".join([*words.GLOSSARY, *words.GLOSSARY.values()])
    unexplained = {word for word in acronyms if re.sub(r"@\d+", "@k", word) not in glossary and word not in glossary}
    assert not unexplained


def test_little_makes_a_report_as_well(tmp_path):
    small = study.write_study(
        tmp_path / "s", rungs=(2000, 8000), objectives=("captioning",), inits=("scratch",), seeds=(0,)
    )
    page = write_report(small, tmp_path / "out")[0].read_text()
    assert "No curve was fitted" in page
    assert 'id="crossovers"' not in page
    assert 'id="ablations"' not in page
    assert 'id="cost"' in page


def test_runs_without_configuration_or_times_make_a_report(tmp_path):
    folder = study.write_study(
        tmp_path / "s", rungs=(2000,), objectives=("captioning",), inits=("scratch",), seeds=(0,)
    )
    for file in folder.glob("runs/*/config.json"):
        file.unlink()
    summary = folder / "runs" / "captioning-scratch-2000-0" / "summary.json"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"wall_seconds": None, "flops": None}))
    collect(folder / "ledger.jsonl", sorted((folder / "runs").iterdir()))
    assert "No run left a configuration" in write_report(folder, tmp_path / "out")[0].read_text()


def test_a_floor_that_is_null_is_no_number_anywhere():
    rows = ledger_rows()
    (panel,) = make_panels([row | {"floor": None} for row in rows])
    assert panel.floor is None
    assert against_floor([panel]) == []
    svg = panel_svg(panel, make_styles(list(panel.curves)), {}, {}, "a panel")
    assert "chance" in svg
    assert "floor" not in svg
    (panel,) = make_panels([row | {"floor": None if row["seed"] else 0.2} for row in rows])
    assert panel.floor == 0.2  # a mean over those that are known


def test_a_start_without_steps_is_a_line_of_its_own_and_not_part_of_the_untrained_one():
    rows = ledger_rows() + ledger_rows(init="runs/tagger")
    for init, value in (("scratch", 0.2), ("runs/tagger", 0.6)):
        row = {"run": f"none-{init}", "init": init, "value": value, "interval_low": None, "interval_high": None}
        rows.append(rows[0] | row | {"steps": 0, "seed": 0})
    (panel,) = make_panels(rows)
    assert (panel.untrained.mean, panel.start.mean) == (0.2, 0.6)
    svg = panel_svg(panel, make_styles(list(panel.curves)), {}, {}, "a panel")
    assert "start 60" in svg
    assert "untrained 20" in svg
    plain = dict.fromkeys(("chance", "interval_low", "interval_high")) | {"metric": "cider_d", "floor": 3.0}
    scored = [row | plain | {"value": 10 * row["value"]} for row in rows]
    (panel,) = make_panels(scored)
    fit = {"x": [1000, 4000], "y": [0.9, 0.4], "low": [0.8, 0.3], "high": [0.95, 0.5]}
    tenfold = {key: fit[key] if key == "x" else [10 * error for error in fit[key]] for key in fit}
    svg = panel_svg(panel, make_styles(list(panel.curves)), dict.fromkeys(panel.curves, tenfold), {}, "a panel")
    (panel,) = make_panels([row | {"metric": "map", "value": row["value"] / 10, "floor": 0.3} for row in scored])
    same = panel_svg(panel, make_styles(list(panel.curves)), dict.fromkeys(panel.curves, fit), {}, "a panel")
    assert re.findall(r' d="[^"]+', svg) == re.findall(r' d="[^"]+', same)
    assert {"start 6", "untrained 2", "floor 3"} <= {
        text.strip(" \u2193\u2191") for text in re.findall(r">([^<]+)<", svg)
    }
    (alone,) = make_panels([row for row in rows if row["run"] != "none-runs/tagger"])
    assert alone.start is None
