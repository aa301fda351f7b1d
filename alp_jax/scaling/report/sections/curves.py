"""Value against pairs, drawn: a panel per task and pooling."""

from typing import Any

from alp_jax.core import metrics
from alp_jax.scaling import glossary
from alp_jax.scaling.questions.held_out import HeldOut
from alp_jax.scaling.report.figures import Style, panel_svg
from alp_jax.scaling.report.study import Study
from alp_jax.scaling.report.summary import Panel

_PANEL = ("task", "pooling", "metric")


def context(study: Study) -> dict[str, Any]:
    return {"kinds": curve_sections(study.panels, study.laws["fits"], study.laws["held_out"], study.styles)}


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
