"""The drawings and tables of a report, by section."""

import pathlib
from typing import Any

from alp_jax.core import metrics
from alp_jax.core.files import read_json
from alp_jax.core.run_files import RESULTS, RUNS, result_files
from alp_jax.scaling import glossary
from alp_jax.scaling.questions.crossings import SweepCrossover, settings_of
from alp_jax.scaling.questions.held_out import HeldOut
from alp_jax.scaling.report.costs import Cost
from alp_jax.scaling.report.figures import Style, cost_svg, crossing_svg, panel_svg
from alp_jax.scaling.report.summary import Panel, difference

_PANEL = ("task", "pooling", "metric")


def curve_sections(
    panels: list[Panel], fits: list[dict[str, Any]], held_out: dict[str, list[HeldOut]], styles: dict[str, Style]
) -> list[dict[str, Any]]:
    """Headline panels by kind, each with its drawing. ``held_out``: by name of the curve."""
    sections: dict[str, list[dict[str, str]]] = {}
    for panel in panels:
        if not metrics.is_headline(panel.metric) or not panel.curves:
            continue
        key = (panel.task, panel.pooling, panel.metric)
        fitted = {f["curve_name"]: f["curve"] for f in fits if tuple(f["group"][c] for c in _PANEL) == key}
        predicted = {
            name: one for name, ones in held_out.items() for one in ones if tuple(one.group[c] for c in _PANEL) == key
        }
        title = glossary.task_title(panel.task)
        metric = metrics.METRICS[panel.metric]
        unit = "percent" if metric.unit == metrics.SHARE else metric.unit
        label = f"{title}, {glossary.pooling_title(panel.pooling)}: {metric.title} in {unit} against training pairs"
        drawing = {
            "title": title,
            "metric": f"{metric.title}, {metric.symbol}",
            "svg": panel_svg(panel, styles, fitted, predicted, label),
        }
        sections.setdefault(f"{glossary.kind(panel.task)}, {glossary.pooling_title(panel.pooling)}", []).append(drawing)
    return [{"title": title, "panels": drawings} for title, drawings in sections.items()]


def crossing_sections(crossings: dict[tuple[str, str], list[SweepCrossover]]) -> list[dict[str, Any]]:
    """Per pair of objectives: title, drawing, and a row of text for every crossover."""
    several = {
        column
        for column in ("model", "init")
        if len({crossover.group[column] for crossovers in crossings.values() for crossover in crossovers}) > 1
    }
    sections = []
    for (a, b), crossovers in crossings.items():
        order = sorted(crossovers, key=lambda p: (glossary.is_retrieval(p.group["task"]), *p.group.values()))
        named = [(glossary.task_title(p.group["task"]), settings_of(p, several), p) for p in order]
        title = f"{glossary.sentence(a)} and {b}"
        label = f"{title}: pairs at which one overtakes the other, with 95% intervals"
        sections.append({"title": title, "svg": crossing_svg(named, label), "rows": named})
    return sections


def cost_figure(costs: list[Cost], styles: dict[str, Style]) -> str | None:
    """Mean probe score against FLOPs; None where runs share no probe or say no FLOPs."""
    usable = [cost for cost in costs if cost.score is not None and cost.flops]
    if len({cost.flops for cost in usable}) < 2:
        return None
    return cost_svg(usable, styles, "Mean probe score in percent against floating-point operations of training")


def result_tables(panels: list[Panel], names: list[str], rungs: list[int]) -> list[dict[str, Any]]:
    """One table per pooling: rows are (task, metric), columns chance, floor, untrained and every curve's rungs."""
    tables: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for panel in panels:
        cells = []
        for name in names:
            points = {point.pairs: point for point in panel.curves.get(name, [])}
            for rung in rungs:
                point = points.get(rung)
                versus = difference(panel.metric, point, panel.untrained) if point and panel.untrained else None
                cells.append({"point": point, "versus": versus, "first": rung == rungs[0]})
        tables.setdefault((glossary.kind(panel.task), panel.pooling), []).append({"panel": panel, "cells": cells})
    return [
        {"title": f"{kind}, {glossary.pooling_title(pooling)}", "rows": rows}
        for (kind, pooling), rows in tables.items()
    ]


def protocol(sweep: pathlib.Path, done: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How each result was measured, from the evaluation files of one run that has it."""
    files = {}
    for run in done:
        for file in result_files(sweep / RUNS / run["id"] / RESULTS):
            files.setdefault(file.name, file)
    keys = ("task", "pooling", "n_train", "n_test", "classes")
    keys += ("groups_train", "groups_test", "interval_over", "selection")
    results = [read_json(file, "result") for _, file in sorted(files.items())]
    return [{key: result[key] for key in keys} for result in results if all(key in result for key in keys)]
