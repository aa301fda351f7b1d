"""Where one objective overtakes another."""

from typing import Any

from alp_jax.scaling import glossary
from alp_jax.scaling.questions.crossings import SweepCrossover, settings_of
from alp_jax.scaling.report.figures import crossing_svg
from alp_jax.scaling.report.study import Study


def context(study: Study) -> dict[str, Any] | None:
    sections = crossing_sections(study.laws["crossings"])
    return {"crossings": sections} if sections else None


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
