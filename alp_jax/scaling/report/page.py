"""The report page of a sweep: what was measured, how it compares, what it cost, and what it cannot tell."""

import datetime
import operator
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jinja2

from alp_jax.config import format_count
from alp_jax.core import metrics
from alp_jax.core.files import write_text
from alp_jax.core.pace import clock
from alp_jax.scaling import glossary
from alp_jax.scaling.report.figures import PALETTE
from alp_jax.scaling.report.sections import (
    ablations,
    corpus,
    cost,
    crossovers,
    curves,
    findings,
    fits,
    limits,
    runs,
    settings,
    tables,
    words,
)
from alp_jax.scaling.report.study import Study, read_study
from alp_jax.scaling.sweep.folder import local_sweep

DASH, MINUS = "\u2013", "\u2212"


class Section(NamedTuple):
    """A part of the page: ``NAME.html`` under a heading, and ``NAME.txt`` in the text where there is such a template.

    Attributes:
      context: what its templates need besides ``_shared``; where it returns None, the study has no such part.
    """

    name: str
    title: str
    context: Callable[[Study], dict[str, Any] | None]


SECTIONS = (  # in their order
    Section("findings", "Findings", findings.context),
    Section("curves", "Curves", curves.context),
    Section("crossovers", "Crossovers", crossovers.context),
    Section("ablations", "Ablations", ablations.context),
    Section("tables", "Tables", tables.context),
    Section("fits", "Fits", fits.context),
    Section("cost", "Cost", cost.context),
    Section("corpus", "Corpus", corpus.context),
    Section("runs", "Runs", runs.context),
    Section("limits", "What cannot be concluded", limits.context),
    Section("settings", "Settings", settings.context),
    Section("words", "Words", words.context),
)


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
      UserError: no such sweep, no results in it, or a file that is not what those commands write.
    """
    with local_sweep(sweep) as folder:
        study = read_study(folder, stats, captions)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("alp_jax.scaling.report"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"percent": percent, "count": count, "clock": clock, "number": number, "signed": signed}
    shown, context = [], _shared(study)
    for section in SECTIONS:
        own = section.context(study)
        if own is not None:
            shown.append(section)
            context |= own
    texts = [section for section in shown if f"{section.name}.txt" in environment.list_templates()]
    files = []
    for template, name, sections in (("report.html", "index.html", shown), ("report.txt", "report.md", texts)):
        files.append(pathlib.Path(out) / name)
        write_text(files[-1], environment.get_template(template).render(context, sections=sections))
    return files


def _shared(study: Study) -> dict[str, Any]:
    """Values that every template can use."""
    statuses = [run["status"] for run in study.runs]
    machine = operator.itemgetter("alp_jax", "git", "python", "packages", "platform", "devices")
    return {
        "title": glossary.sweep_title(study.name),
        "written": datetime.datetime.now().astimezone().strftime("%d %B %Y, %H:%M %Z"),
        "rungs": study.rungs,
        "seeds": study.seeds,
        "names": study.names,
        "starts": any(panel.start for panel in study.panels),
        "objectives": list(dict.fromkeys(name.partition(", ")[0] for name in study.names)),
        "styles": study.styles,
        "palette": PALETTE,
        "environment": study.environments[-1] if study.environments else None,
        "environments_differ": len({str(machine(one)) for one in study.environments}) > 1,
        "total_seconds": sum(run["seconds"] for run in study.runs),
        "statuses": {name: statuses.count(name) for name in ("done", "failed", "interrupted", "waiting")},
        "glossary": glossary,
        "metrics": metrics,
        "format_count": format_count,
    }


def percent(value: float | None, digits: int = 1) -> str:
    """A share as percent without its sign; a dash for None."""
    return DASH if value is None else f"{100 * value:.{digits}f}"


def signed(value: float) -> str:
    """A share as percent with a plus or a minus."""
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
    """Three digits; a value close to zero as a bound on it."""
    if value is None:
        return DASH
    return "< 0.001" if 0 < value < 1e-3 else f"{value:.3g}"
