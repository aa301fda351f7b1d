"""One page about a sweep: what was measured, how it compares, what it cost, and what it cannot tell."""

import datetime
import pathlib
from typing import Any

import jinja2

from alp_jax.config import format_count
from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json, write_text
from alp_jax.core.progress import clock
from alp_jax.scaling import words
from alp_jax.scaling.corpus import read_corpus
from alp_jax.scaling.figures import SERIES, panel_svg
from alp_jax.scaling.ledger import Ledger
from alp_jax.scaling.questions.findings import Verdict, judge
from alp_jax.scaling.settings import setting_rows
from alp_jax.scaling.summary import (
    Panel,
    curve_names,
    difference,
    family_verdicts,
    make_panels,
    retrieval_verdicts,
)
from alp_jax.scaling.table import fit_groups

TIMES_CHANCE = 5.0  # what retrieval is asked to reach
DASH, MINUS = "\u2013", "\u2212"


def write_report(
    sweep: str | pathlib.Path,
    out: str | pathlib.Path,
    stats: str | pathlib.Path | None = None,
    captions: str | pathlib.Path | None = None,
) -> list[pathlib.Path]:
    """Writes ``index.html`` (opens offline, needs nothing else) and ``report.md`` into ``out``.

    Args:
      sweep: folder of ``alp sweep``. stats: JSON file of ``alp data stats``. captions: that of ``alp data captions``.

    Raises:
      UserError: no such sweep, no results in it, or a file of statistics that is none.
    """
    context = gather(pathlib.Path(sweep), read_corpus(stats, captions))
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("alp_jax.scaling"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {"percent": percent, "count": count, "clock": clock, "number": number, "signed": signed}
    files = []
    for template, name in (("report.html", "index.html"), ("report.txt", "report.md")):
        files.append(pathlib.Path(out) / name)
        write_text(files[-1], environment.get_template(template).render(context))
    return files


def gather(sweep: pathlib.Path, corpus: dict[str, Any]) -> dict[str, Any]:
    """Everything the templates show, from the files of a sweep folder and ``read_corpus``."""
    if not (sweep / "sweep.json").is_file():
        raise UserError(f"--sweep {sweep} has no sweep.json: it is no folder of 'alp sweep'")
    state = read_json(sweep / "sweep.json", "sweep state")
    ledger = Ledger(sweep / "ledger.jsonl")
    rows = ledger.table()
    if not rows:
        raise UserError(f"--sweep {sweep} has no results yet: run 'alp sweep' first")
    panels = make_panels(rows)
    names = sorted({name for panel in panels for name in panel.curves}, reverse=True)
    colors = {name: i % SERIES for i, name in enumerate(names)}
    fits, verdicts, excluded, fit_note = _fits([row for row in rows if row["metric"] in words.HEADLINES])
    done = [run for run in state["runs"] if run["status"] == "done"]
    environments = [_optional(sweep / "runs" / run["id"] / "env.json") for run in done]
    rungs = sorted({row["pairs"] for row in rows if row["steps"]})
    seeds = sorted({row["seed"] for row in rows if row["steps"]})
    steps = sorted({(row["pairs"], row["steps"]) for row in rows if row["steps"]})
    facts = {"rungs": rungs, "seeds": seeds, "steps": steps, "fits": fits}
    configs = [_optional(sweep / "runs" / run["id"] / "config.json") for run in done]
    return {
        "name": state["name"],
        "written": datetime.datetime.now().astimezone().strftime("%d %B %Y, %H:%M %Z"),
        "rungs": rungs,
        "seeds": seeds,
        "names": names,
        "colors": colors,
        "environment": next((e for e in reversed(environments) if e), None),
        "environments_differ": len({_machine(e) for e in environments if e}) > 1,
        "runs": _run_rows(state["runs"], rows),
        "total_seconds": sum(run["seconds"] for run in state["runs"]),
        "statuses": {
            s: sum(r["status"] == s for r in state["runs"]) for s in ("done", "failed", "interrupted", "waiting")
        },
        "families": family_verdicts(panels),
        "retrieval": retrieval_verdicts(panels),
        "verdicts": verdicts,
        "times_chance": TIMES_CHANCE,
        "sections": _sections(panels, fits, colors),
        "tables": _tables(panels, names, rungs),
        "fits": fits,
        "fit_warnings": list(dict.fromkeys(warning for fit in fits for warning in fit["warnings"])),
        "fit_note": fit_note,
        "excluded": excluded,
        "problems": ledger.problems,
        "protocol": _protocol(sweep, done),
        **corpus,
        "settings": setting_rows([config for config in configs if config]),
        "limits": _limits(facts, panels, corpus["stats"]),
        "glossary": words.GLOSSARY,
        "words": words,
        "format_count": format_count,
    }


def _fits(
    rows: list[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[Verdict], list[dict[str, Any]], str]:
    """(fits, verdicts on the paper's findings, rows left out, why nothing could be fitted)."""
    try:
        result, fitted = fit_groups(rows)
    except UserError as error:  # too few rungs is a finding of the report, not the end of it
        return [], judge([]), [], str(error)
    names = curve_names(rows)
    curve_of = {(r["objective"], r["model"], str(r["init"])): names[r["run"]] for r in rows if r["steps"]}
    for fit in result["fits"]:
        group = fit["group"]
        fit["curve_name"] = curve_of[group["objective"], group["model"], group["init"]]
    return result["fits"], judge(fitted), result["excluded"], ""


def _optional(path: pathlib.Path) -> dict[str, Any] | None:
    return read_json(path) if path.is_file() else None


def _machine(environment: dict[str, Any]) -> tuple:
    return tuple(str(environment[key]) for key in ("alp_jax", "git", "python", "packages", "platform", "devices"))


def _run_rows(runs: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    by_run = {row["run"]: row for row in rows}
    empty = dict.fromkeys(("objective", "pairs", "seed", "steps", "samples_seen", "audio_seconds", "flops", "params"))
    return [{**empty, "wall_seconds": None, **by_run.get(run["id"], {}), **run} for run in runs]


def _sections(panels: list[Panel], fits: list[dict[str, Any]], colors: dict[str, int]) -> list[dict[str, Any]]:
    """Headline panels by kind, each with its drawing."""
    sections: dict[str, list[dict[str, str]]] = {}
    for panel in panels:
        if panel.metric not in words.HEADLINES or not panel.curves:
            continue
        key = (panel.task, panel.pooling, panel.metric)
        mine = {
            f["curve_name"]: f["curve"]
            for f in fits
            if tuple(f["group"][c] for c in ("task", "pooling", "metric")) == key
        }
        kind = "Retrieval" if panel.retrieval else "Probes"
        title = words.task_title(panel.task)
        metric = words.metric_title(panel.metric)
        label = f"{title}, {words.pooling_title(panel.pooling)}: {metric} in percent against training pairs"
        drawing = {"title": title, "metric": metric, "svg": panel_svg(panel, colors, mine, label)}
        sections.setdefault(f"{kind}, {words.pooling_title(panel.pooling)}", []).append(drawing)
    return [{"title": title, "panels": drawings} for title, drawings in sections.items()]


def _tables(panels: list[Panel], names: list[str], rungs: list[int]) -> list[dict[str, Any]]:
    """One table per pooling: rows are (task, metric), columns chance, floor, untrained and every curve's rungs."""
    tables: dict[tuple[bool, str], list[dict[str, Any]]] = {}
    for panel in panels:
        cells = []
        for name in names:
            points = {point.pairs: point for point in panel.curves.get(name, [])}
            for rung in rungs:
                point = points.get(rung)
                versus = difference(point, panel.untrained) if point and panel.untrained else None
                cells.append({"point": point, "versus": versus, "first": rung == rungs[0]})
        tables.setdefault((panel.retrieval, panel.pooling), []).append({"panel": panel, "cells": cells})
    title = {True: "Retrieval", False: "Probe"}
    return [
        {"title": f"{title[retrieval]}, {words.pooling_title(pooling)}", "rows": rows}
        for (retrieval, pooling), rows in tables.items()
    ]


def _protocol(sweep: pathlib.Path, done: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How each result was measured, from the evaluation files of one run that has it."""
    found = {}
    for run in done:
        for file in sorted((sweep / "runs" / run["id"] / "eval").glob("*.json")):
            found.setdefault(file.name, file)
    keys = (
        "task",
        "pooling",
        "n_train",
        "n_test",
        "classes",
        "groups_train",
        "groups_test",
        "interval_over",
        "selection",
    )
    results = [read_json(file, "result") for _, file in sorted(found.items())]
    return [{key: result[key] for key in keys} for result in results if all(key in result for key in keys)]


def _limits(facts: dict[str, Any], panels: list[Panel], stats: dict[str, Any] | None) -> list[str]:
    """What this sweep cannot tell, from its own numbers."""
    rungs, seeds = facts["rungs"], facts["seeds"]
    limits = []
    if rungs:
        span = f"{format_count(rungs[0])} to {format_count(rungs[-1])}" if len(rungs) > 1 else format_count(rungs[0])
        limits.append(
            f"What happens outside {span} pairs. Nothing here is extrapolated; a law is drawn only where runs are."
        )
    if len(rungs) < 4:
        limits.append(
            f"The exponent of any curve on its own. {len(rungs)} rungs leave exponent and asymptote confounded: many "
            "pairs of them fit equally well."
        )
    if len(seeds) < 5:
        limits.append(
            f"Small differences. With {len(seeds)} seed{'s' * (len(seeds) != 1)} per point the spread between runs is "
            "hardly known; intervals rest mostly on the test clips."
        )
    if len({steps for _, steps in facts["steps"]}) > 1:
        spans = ", ".join(f"{steps:,} at {format_count(pairs)}" for pairs, steps in facts["steps"])
        limits.append(
            f"What more pairs do on their own. Runs also differ in steps ({spans}), so a curve shows more data and "
            "longer training together."
        )
    limits.append(
        "Which objective is better at scale. At a rung the objectives saw the same steps, not the same computation "
        "tuned for each; learning rate and batch were not tuned per objective or per rung."
    )
    hours = f"{stats['hours']:.1f} hours in all" if stats else "a small corpus"
    limits.append(
        f"Anything about audio in general. The corpus is {hours}; with few packages, kits, voices and tracks the "
        "groups carry their own sound, so a class may be told from its group's recording conditions."
    )
    limits.append(
        "How free text would do. Part of the captions come from templates over metadata, so that retrieval rewards "
        "recovering the template's facts, and text of that kind is easier than what people write."
    )
    alone = [words.task_title(p.task) for p in panels if p.untrained is None and p.metric in words.HEADLINES]
    if alone:
        limits.append(f"Gain over random parameters on {', '.join(dict.fromkeys(alone))}: no untrained run has it.")
    return limits


def percent(value: float | None, digits: int = 1) -> str:
    return DASH if value is None else f"{100 * value:.{digits}f}"


def signed(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", MINUS)


def count(value: float | None) -> str:
    """1234567 -> ``1.23 M``; small numbers in full."""
    if value is None:
        return DASH
    for limit, unit in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:,.0f}".replace(",", " ")


def number(value: float | None) -> str:
    return DASH if value is None else f"{value:.3g}"
