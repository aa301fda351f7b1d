"""One page about a sweep: what was measured, how it compares, what it cost, and what it cannot tell."""

import datetime
import pathlib
from typing import Any

import jinja2

from alp_jax.config import format_count
from alp_jax.core import metrics
from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json, write_text
from alp_jax.core.pace import clock
from alp_jax.core.run_files import CONFIG, ENVIRONMENT, LEDGER, RUNS, SWEEP
from alp_jax.scaling import glossary
from alp_jax.scaling.laws.curves import GROUP
from alp_jax.scaling.laws.curves_fit import fit_groups
from alp_jax.scaling.questions.crossings import find_crossings
from alp_jax.scaling.questions.findings import paper_verdicts
from alp_jax.scaling.questions.held_out import HeldOut, hold_out
from alp_jax.scaling.report.ablations import AXES, ablations, add_variants
from alp_jax.scaling.report.against_floor import against_floor
from alp_jax.scaling.report.corpus import read_corpus
from alp_jax.scaling.report.costs import make_costs
from alp_jax.scaling.report.figures import PALETTE, make_styles
from alp_jax.scaling.report.limits import find_limits
from alp_jax.scaling.report.sections import cost_figure, crossing_sections, curve_sections, protocol, result_tables
from alp_jax.scaling.report.settings import setting_rows
from alp_jax.scaling.report.summary import curve_names, family_verdicts, make_panels, retrieval_verdicts, sort_names
from alp_jax.scaling.sweep.ledger import Ledger

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
        loader=jinja2.PackageLoader("alp_jax.scaling.report"),
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
    if not (sweep / SWEEP).is_file():
        raise UserError(f"--sweep {sweep} has no sweep.json: it is no folder of 'alp sweep'")
    state = read_json(sweep / SWEEP, "sweep state")
    ledger = Ledger(sweep / LEDGER)
    rows = [dict(row) for row in ledger.table()]
    if not rows:
        raise UserError(f"--sweep {sweep} has no results yet: run 'alp sweep' first")
    done = [run for run in state["runs"] if run["status"] == "done"]
    environments = [_optional(sweep / RUNS / run["id"] / ENVIRONMENT) for run in done]
    configs = {run["id"]: _optional(sweep / RUNS / run["id"] / CONFIG) for run in done}
    configs = {run: config for run, config in configs.items() if config}
    varied = add_variants(rows, configs)
    panels = make_panels(rows)
    names = sort_names(name for panel in panels for name in panel.curves)
    styles = make_styles(names)
    trained = [row for row in rows if row["steps"]]
    facts = {
        "rungs": sorted({row["pairs"] for row in trained}),
        "seeds": sorted({row["seed"] for row in trained}),
        "steps": sorted({(row["pairs"], row["steps"]) for row in trained}),
    }
    costs = make_costs(rows)
    laws = fit_laws([row for row in rows if metrics.is_headline(row["metric"])])
    return {
        "title": glossary.sweep_title(state["name"]),
        "written": datetime.datetime.now().astimezone().strftime("%d %B %Y, %H:%M %Z"),
        "rungs": facts["rungs"],
        "seeds": facts["seeds"],
        "names": names,
        "starts": any(panel.start for panel in panels),
        "objectives": list(dict.fromkeys(name.partition(", ")[0] for name in names)),
        "styles": styles,
        "palette": PALETTE,
        "environment": next((e for e in reversed(environments) if e), None),
        "environments_differ": len({_machine(e) for e in environments if e}) > 1,
        "runs": _run_rows(state["runs"], rows),
        "total_seconds": sum(run["seconds"] for run in state["runs"]),
        "statuses": {
            s: sum(r["status"] == s for r in state["runs"]) for s in ("done", "failed", "interrupted", "waiting")
        },
        "families": family_verdicts(panels),
        "retrieval": retrieval_verdicts(panels),
        "floors": against_floor(panels),
        "times_chance": TIMES_CHANCE,
        "sections": curve_sections(panels, laws["fits"], laws["held_out"], styles),
        "crossings": crossing_sections(laws.pop("crossings")),
        "tables": result_tables(panels, names, facts["rungs"]),
        **laws,
        "fit_warnings": list(dict.fromkeys(warning for fit in laws["fits"] for warning in fit["warnings"])),
        "ablations": ablations(rows, varied),
        "costs": costs,
        "training_seconds": sum(cost.seconds * cost.runs for cost in costs if cost.seconds is not None),
        "cost_figure": cost_figure(costs, styles),
        "problems": ledger.problems,
        "protocol": protocol(sweep, done),
        **corpus,
        "settings": setting_rows(list(configs.values())),
        "limits": find_limits(facts, panels, corpus["stats"]),
        "terms": dict(sorted(glossary.GLOSSARY.items(), key=lambda item: item[0].lower())),
        "glossary": glossary,
        "metrics": metrics,
        "format_count": format_count,
    }


def fit_laws(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the curves of ``rows`` (headline metrics, with the columns of ``add_variants``) say.

    Returns:
      ``fits`` and ``excluded`` as ``fit_groups``, each fit with its ``curve_name``; ``verdicts`` on the paper's
      findings; ``crossings`` as ``find_crossings``; ``held_out``: name of the curve -> its held-out rungs;
      ``fit_note``: why nothing could be fitted, or empty.
    """
    nothing = {"fits": [], "crossings": {}, "held_out": {}, "excluded": [], "fit_note": ""}
    try:
        result, fitted = fit_groups(rows, group=(*GROUP, "variant"))
    except UserError as error:  # too few rungs is a finding of the report, not the end of it
        return nothing | {"verdicts": paper_verdicts([]), "fit_note": str(error)}
    names = curve_names(rows)
    columns = (*AXES, "variant")
    curve_of = {tuple(str(r[c]) for c in columns): names[r["run"]] for r in rows if r["steps"]}
    for fit in result["fits"]:
        fit["curve_name"] = curve_of[tuple(fit["group"][c] for c in columns)]
    held_out: dict[str, list[HeldOut]] = {}
    for one in hold_out([curve for curve, _ in fitted]):
        held_out.setdefault(curve_of[tuple(one.group[c] for c in columns)], []).append(one)
    order = sort_names(names.values())
    return nothing | {
        "fits": sorted(result["fits"], key=lambda fit: order.index(fit["curve_name"])),
        "verdicts": paper_verdicts(fitted),
        "crossings": find_crossings(fitted),
        "held_out": held_out,
        "excluded": result["excluded"],
    }


def _optional(path: pathlib.Path) -> dict[str, Any] | None:
    return read_json(path) if path.is_file() else None


def _machine(environment: dict[str, Any]) -> tuple:
    return tuple(str(environment[key]) for key in ("alp_jax", "git", "python", "packages", "platform", "devices"))


def _run_rows(runs: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    by_run = {row["run"]: row for row in rows}
    empty = dict.fromkeys(("objective", "pairs", "seed", "steps", "samples_seen", "audio_seconds", "flops", "params"))
    return [{**empty, "wall_seconds": None, **by_run.get(run["id"], {}), **run} for run in runs]


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
    """Three digits; what is almost nothing as a bound."""
    if value is None:
        return DASH
    return "< 0.001" if 0 < value < 1e-3 else f"{value:.3g}"
