"""The report holds every task and number it should, opens alone, and says what it cannot know."""

import functools
import html.parser
import json
import re

import pytest

from alp_jax.cli import main as cli
from alp_jax.config import RunConfig, to_dict
from alp_jax.core.errors import UserError
from alp_jax.data.text.statistics import CaptionStatistics
from alp_jax.scaling import glossary
from alp_jax.scaling.report import study as report
from alp_jax.scaling.report.page import write_report
from alp_jax.scaling.report.sections.settings import setting_rows
from alp_jax.scaling.report.summary import Point, difference, family_verdicts, make_panels, retrieval_verdicts
from alp_jax.scaling.sweep.ledger import collect

VOID = {"meta", "link", "img", "br", "hr", "input", "path", "use", "rect"}


class Page(html.parser.HTMLParser):
    """Collects text, ids, references to other resources, and checks that elements are closed in order."""

    def __init__(self):
        super().__init__()
        self.text, self.ids, self.resources, self.local, self.open = [], [], [], [], []
        self.scrolls: list[bool] = []  # of the open elements: whether they scroll by themselves

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
            self.scrolls.append("scroll" in (dict(attrs).get("class") or "").split())
        assert tag != "table" or any(self.scrolls), "a wide table would move the page sideways"
        self._look(tag, attrs)

    def handle_startendtag(self, tag, attrs):
        self._look(tag, attrs)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag
            self.scrolls.pop()

    def handle_data(self, data):
        self.text.append(data)

    def _look(self, tag, attrs):
        assert tag not in ("script", "link", "iframe", "object"), tag
        for key, value in attrs:
            self.ids += [value] if key == "id" else []
            if key in ("src", "href", "xlink:href", "srcset", "data"):
                (self.local if value.startswith("#") else self.resources).append(value)


@pytest.fixture(autouse=True)
def few_replicas(monkeypatch):
    monkeypatch.setattr(report, "fit_groups", functools.partial(report.fit_groups, replicas=20))


@pytest.fixture
def sweep(tmp_path, finished):
    """Two untrained and eleven trained runs, one failed with markup in its message."""
    folder = tmp_path / "mini"
    runs, folders = [], []

    def add(name, **settings):
        folders.append(finished(folder / "runs" / name, **settings))
        (folders[-1] / "config.json").write_text(json.dumps({"seed": settings["seed"], "optim": {"lr": 0.001}}))
        record = {"id": name, "kind": "trained" if settings.get("steps", 1) else "untrained", "status": "done"}
        runs.append(record | {"attempts": 1, "exit_code": 0, "cause": "", "seconds": 30.0})

    for seed in (0, 1):
        add(f"untrained-{seed}", pairs=0, steps=0, seed=seed, quality=0.02)
        for objective, gain in (("contrastive", 0.0), ("captioning", -0.1)):
            for pairs in (1000, 4000, 16_000):
                quality = 0.9 - 4 * pairs**-0.35 + gain + 0.01 * seed
                add(f"{objective}-{pairs}-{seed}", objective=objective, pairs=pairs, seed=seed, quality=quality)
    cause = "status 46: alp: <b>non-finite</b> steps"
    runs.append(runs[0] | {"id": "lost", "status": "failed", "exit_code": 46, "cause": cause})
    (folder / "sweep.json").write_text(json.dumps({"name": "mini", "seconds": 420.0, "runs": runs}))
    collect(folder / "ledger.jsonl", folders)
    return folder


def test_the_page_is_whole_self_contained_and_names_every_task(sweep, tmp_path):
    page_file, text_file = write_report(sweep, tmp_path / "out")
    source = page_file.read_text()
    page = Page()
    page.feed(source)
    page.close()
    assert not page.open
    assert not page.resources
    assert not re.search(r"https?://|@import|url\((?!#)", source)
    assert len(page.ids) == len(set(page.ids))
    assert {target[1:] for target in page.local} <= set(page.ids)
    text = " ".join(" ".join(page.text).split())
    for task in ("sound_event", "speaker", "drum", "music_genre", "text_to_audio", "audio_to_text"):
        assert glossary.task_title(task) in text
        assert glossary.task_title(task) in text_file.read_text()
    for needed in ("attention pooling", "mean pooling", "joint space", "balanced accuracy", "confounded", "InfoNCE"):
        assert needed in text
    assert source.count("<svg") == (4 * 2 + 2 * 2) + 1  # panels, crossovers of the two objectives
    assert "<b>non-finite" not in source
    assert "<b>non-finite</b> steps" in text
    assert "What cannot be concluded" in text
    assert "undecided Contrastive is more data-efficient, above all on discriminative probes log(captioning" in text
    assert (
        "A supervised start helps at small scale and fades as data grows: undecided. no curves" in text_file.read_text()
    )


def test_titles_are_in_words_and_the_floor_is_named(sweep, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "fit_groups", lambda rows, group: ({"fits": [], "excluded": []}, []))
    state = json.loads((sweep / "sweep.json").read_text())
    state["name"] = "batch_temperature:init=runs/tagger,pairs=4k,objective=hybrid,size=mini"
    (sweep / "sweep.json").write_text(json.dumps(state))
    for file in sweep.glob("runs/*/eval/drum-*.json"):
        result = json.loads(file.read_text())
        result["metrics"]["accuracy"]["floor"] = 0.95
        file.write_text(json.dumps(result))
    (sweep / "ledger.jsonl").unlink()
    collect(sweep / "ledger.jsonl", sorted((sweep / "runs").iterdir()))
    page, text = (file.read_text() for file in write_report(sweep, tmp_path / "out"))
    title = "Scaling report: batch temperature, from tagger, 4k pairs, hybrid, size mini"
    assert f"<title>{title}</title>" in page
    assert f"<h1>{title}</h1>" in page
    assert text.startswith(f"# {title}\n")
    assert not re.search(r"<h[123]>[^<]*(=|_|[a-z]\.[a-z])", page), "a heading that is an argument string"
    assert "In 2 of 12 results it is ahead of every trained encoder" in page
    assert "<strong>Drum class</strong>, mean pooling: floor 95.0%, best encoder" in page
    assert (
        "- Drum class, attention pooling: the log-mel floor, without any encoder, is ahead of every trained one" in text
    )


def test_panels_average_seeds_and_verdicts_follow_the_numbers(sweep):
    from alp_jax.scaling.sweep.ledger import Ledger

    panels = make_panels(Ledger(sweep / "ledger.jsonl").table())
    panel = next(p for p in panels if (p.task, p.pooling, p.metric) == ("speaker", "mean", "accuracy"))
    assert [point.pairs for point in panel.curves["contrastive"]] == [1000, 4000, 16_000]
    assert all(len(point.values) == 2 for point in panel.curves["captioning"])
    assert len(panel.untrained.values) == 2
    verdicts = family_verdicts(panels)
    assert {v["family"] for v in verdicts} == {"Sound events", "Speech", "Drums and instruments", "Music"}
    assert all(v["beats"] and v["better"] == v["of"] == 2 for v in verdicts)
    ratios = {(v["task"], v["pooling"], v["curve"]): v["ratio"] for v in retrieval_verdicts(panels)}
    assert len(ratios) == 2 + 4
    assert ratios["text_to_audio", "joint", "contrastive"] > 5


def test_a_difference_within_its_interval_is_undecided():
    low, high = Point(0, (0.50, 0.52), 0.45, 0.57), Point(1000, (0.53, 0.55), 0.48, 0.60)
    assert difference("map", high, low).verdict == "undecided"
    assert difference("map", Point(1000, (0.8,), 0.75, 0.85), low).verdict == "better"
    assert difference("map", Point(1000, (0.2,), 0.15, 0.25), low).verdict == "worse"


def test_a_smaller_rank_is_better_and_of_unknown_metrics_nothing_is_said():
    untrained, trained = Point(0, (60.0, 64.0), 50.0, 70.0), Point(1000, (20.0, 24.0), 15.0, 30.0)
    found = difference("median_rank", trained, untrained)
    assert (found.value, found.verdict) == (40.0, "better")
    assert difference("median_rank", untrained, trained).verdict == "worse"
    assert difference("word_error_rate", trained, untrained) is None
    assert difference("median_rank", Point(1000, (20.0,), None, None), untrained) is None  # one run, no interval


def test_statistics_of_the_corpus_are_shown(sweep, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "fit_groups", lambda rows, group: ({"fits": [], "excluded": []}, []))
    row = {"clips": 4321, "hours": 1.5, "captions": 9}
    row["seconds"] = {"0": 0.1, "5": 0.2, "50": 1.25, "95": 7.5, "100": 9.0}
    stats = row | {"pairs": 16_000, "splits": {"train": row | {"sources": {"rattles & bells": row}}}}
    stats["excluded"] = {"leak:audio": row | {"clips": 77}}
    (tmp_path / "stats.json").write_text(json.dumps(stats))
    page, text = write_report(sweep, tmp_path / "out", tmp_path / "stats.json")
    source = page.read_text()
    assert "rattles &amp; bells" in source
    assert "1.5 hours" in source
    assert "77 clips (leak:audio)" in source
    assert "| train | rattles & bells | 4321 | 1.5 | 9 |" in text.read_text()


def describe(path, captions):
    """Statistics of captions by source, as the verb writes them."""
    found = CaptionStatistics(lambda text: len(text.split()), budget=2, exact=8)
    for source, texts in captions.items():
        for i, text in enumerate(texts):
            found.add(source, "train", f"{source}:{i}", [text])
    path.write_text(json.dumps(found.result()))
    return path


def test_captions_of_the_corpus_are_shown(sweep, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "fit_groups", lambda rows, group: ({"fits": [], "excluded": []}, []))
    texts = {
        "bells": ["a <b>bell</b> rings loudly and", "Ein Hund bellt in der Ferne", "a bell rings twice now", "a bell"],
        "rain": ["rain falls on the roof", "rain falls on the roof", "possibly rain"],
    }
    page_file, text_file = write_report(sweep, tmp_path / "out", captions=describe(tmp_path / "c.json", texts))
    page = Page()
    page.feed(page_file.read_text())
    page.close()
    assert not page.open
    assert "<b>bell" not in page_file.read_text()
    text = " ".join(" ".join(page.text).split())
    assert "cut off ends mid-sentence" in text
    assert "1 14.29 bells, 25.00% a <b>bell</b> rings loudly and" in text
    assert "“Ein Hund bellt in der Ferne” (de, bells)" in text
    assert "rain falls on the roof 66.67%" in text
    assert "~" in text
    assert "cut at 2, %" in text
    assert "- cut off (defect; ends mid-sentence" in text_file.read_text()
    assert "| rain | 3 | 2 / 5 / 5 | 6 |" in text_file.read_text()


def test_files_that_are_no_statistics_are_named(sweep, tmp_path):
    (tmp_path / "x.json").write_text('{"clips": 3}')
    with pytest.raises(UserError, match=r"--stats .*x\.json is not what 'alp data stats --out FILE' writes"):
        write_report(sweep, tmp_path / "out", stats=tmp_path / "x.json")
    with pytest.raises(UserError, match=r"--captions .*x\.json is not what 'alp data captions --out FILE' writes"):
        write_report(sweep, tmp_path / "out", captions=tmp_path / "x.json")


def test_one_rung_makes_a_report_without_fits(tmp_path, finished):
    folder = finished(tmp_path / "s" / "runs" / "a", objective="captioning")
    run = {"id": "a", "kind": "trained", "status": "done", "attempts": 1, "cause": "", "seconds": 1.0, "exit_code": 0}
    (tmp_path / "s" / "sweep.json").write_text(json.dumps({"name": "one", "seconds": 1.0, "runs": [run]}))
    collect(tmp_path / "s" / "ledger.jsonl", [folder])
    source = write_report(tmp_path / "s", tmp_path / "out")[0].read_text()
    assert "No curve was fitted" in source
    assert "no untrained run has it" in source


def test_every_setting_carries_what_its_field_says():
    first, second = to_dict(RunConfig()), to_dict(RunConfig(seed=1))
    rows = {row["name"]: row for row in setting_rows([first, second | {"gone": 3}])}
    assert len(rows) == 187 + 1
    assert rows["seed"]["value"] == "0 | 1"
    assert [name for name, row in rows.items() if row["varies"]] == ["seed"]
    assert [name for name, row in rows.items() if not row["meaning"]] == ["gone"], "settings without a meaning"
    assert rows["data.pairs"]["unit"] == "audio-caption pairs"
    assert rows["optim.lr"]["range"] == "above 0"
    assert rows["model.encoder.frontend_channels"]["meaning"].startswith("channels of the front-end convolutions")


def test_a_folder_without_a_sweep_or_results_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no sweep\.json"):
        write_report(tmp_path, tmp_path / "out")
    (tmp_path / "sweep.json").write_text('{"name": "x", "seconds": 0, "runs": []}')
    with pytest.raises(UserError, match="no results yet"):
        write_report(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_line_fits_and_reports(sweep, tmp_path, capsys):
    out = str(tmp_path / "out")
    header, *lines = (sweep / "ledger.csv").read_text().splitlines()
    (tmp_path / "accuracies.csv").write_text("\n".join([header, *(line for line in lines if ",accuracy," in line)]))
    ledger = str(tmp_path / "accuracies.csv")
    assert cli.main(["scaling", "fit", "--ledger", ledger, "--out", out, "--replicas", "20", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["fits"] == 4 * 2 * 2
    assert cli.main(["scaling", "report", "--sweep", str(sweep), "--out", out]) == 0
    assert "index.html" in capsys.readouterr().out
    assert cli.main(["scaling", "report", "--sweep", "nope", "--out", out]) == 2
    assert cli.main(["scaling", "fit", "--ledger", ledger, "--out", out, "--x", "pears"]) == 2
    assert "nearest: 'pairs'" in capsys.readouterr().err


def test_captioning_is_neither_a_probe_nor_retrieval(tmp_path, finished):
    """Its score of 0 to 10 is printed as it is, and of what is no share nobody says percent."""
    folder = finished(tmp_path / "runs" / "a")
    both = {name: {"value": v, "interval": [v - 0.1, v], "chance": None, "floor": 0.2} for name, v in SAID.items()}
    one = json.loads((folder / "eval" / "drum-mean.json").read_text())
    one |= {"task": "captioning", "pooling": "decoder", "metric": "cider_d", "metrics": both}
    (folder / "eval" / "captioning-decoder.json").write_text(json.dumps(one))
    run = {"id": "a", "kind": "trained", "status": "done", "seconds": 1.0, "cause": "", "attempts": 1, "exit_code": 0}
    (tmp_path / "sweep.json").write_text(json.dumps({"name": "mini", "seconds": 1.0, "runs": [run]}))
    collect(tmp_path / "ledger.jsonl", [folder])
    page, text = (file.read_text() for file in write_report(tmp_path, tmp_path / "out"))
    assert "## Captioning, own decoder" in text
    assert "| Captioning | CIDEr-D | \u2013 | 0.2 | \u2013 | 1.25 |" in text
    assert "| Captioning | ROUGE-L | \u2013 | 20.0 | \u2013 | 40.0 |" in text
    assert "CIDEr-D, score</span>" in page
    assert "accuracy, %</span>" in page


SAID = {"cider_d": 1.25, "rouge_l": 0.4}
