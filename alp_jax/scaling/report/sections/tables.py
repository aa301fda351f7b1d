"""Every number, and how it was measured."""

import pathlib
from typing import Any

from alp_jax.core.files import read_json
from alp_jax.core.run_files import RESULTS, RUNS, result_files
from alp_jax.scaling import glossary
from alp_jax.scaling.report.study import Study
from alp_jax.scaling.report.summary import Panel, difference


def context(study: Study) -> dict[str, Any]:
    tables = result_tables(study.panels, study.names, study.rungs)
    return {"tables": tables, "protocol": protocol_rows(study.folder, study.done)}


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


def protocol_rows(sweep: pathlib.Path, done: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How each result was measured, from the evaluation files of one run that has it."""
    files = {}
    for run in done:
        for file in result_files(sweep / RUNS / run["id"] / RESULTS):
            files.setdefault(file.name, file)
    keys = ("task", "pooling", "n_train", "n_test", "classes")
    keys += ("groups_train", "groups_test", "interval_over", "selection")
    results = [read_json(file, "result") for _, file in sorted(files.items())]
    return [{key: result[key] for key in keys} for result in results if all(key in result for key in keys)]
