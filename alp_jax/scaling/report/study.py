"""A sweep's folder, read once for all sections of its report."""

import dataclasses
import functools
import pathlib
from typing import Any

from alp_jax.core import metrics
from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json
from alp_jax.core.run_files import CONFIG, ENVIRONMENT, LEDGER, RUNS, SWEEP
from alp_jax.scaling.laws.curves import GROUP
from alp_jax.scaling.laws.curves_fit import fit_groups
from alp_jax.scaling.questions.crossings import find_crossings
from alp_jax.scaling.questions.findings import paper_verdicts
from alp_jax.scaling.questions.held_out import HeldOut, hold_out
from alp_jax.scaling.report.figures import Style, make_styles
from alp_jax.scaling.report.summary import Panel, curve_names, make_panels, sort_names
from alp_jax.scaling.report.variants import AXES, add_variants
from alp_jax.scaling.sweep.ledger import Ledger


@dataclasses.dataclass(frozen=True)
class Study:
    """Everything that sections of the report read.

    Attributes:
      runs: the records in ``sweep.json``. rows: of the ledger, with the columns of ``add_variants``.
      varied: settings that the sweep varies on purpose. configs: run -> its configuration, where it left one.
      environments: of finished runs. problems: of the ledger.
      stats, captions: what ``alp data stats`` and ``alp data captions`` say about the corpus; None: not given.
    """

    folder: pathlib.Path
    name: str
    runs: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    varied: list[str]
    configs: dict[str, dict[str, Any]]
    environments: list[dict[str, Any]]
    problems: list[str]
    stats: dict[str, Any] | None
    captions: dict[str, Any] | None

    @property
    def done(self) -> list[dict[str, Any]]:
        """The records of the finished runs."""
        return [run for run in self.runs if run["status"] == "done"]

    @functools.cached_property
    def panels(self) -> list[Panel]:
        """A panel per task, pooling and metric."""
        return make_panels(self.rows)

    @functools.cached_property
    def names(self) -> list[str]:
        """Names of the curves, in the report's order."""
        return sort_names(name for panel in self.panels for name in panel.curves)

    @functools.cached_property
    def styles(self) -> dict[str, Style]:
        """The style of every curve, by name."""
        return make_styles(self.names)

    @property
    def rungs(self) -> list[int]:
        """Pairs of the trained runs, ascending."""
        return sorted({row["pairs"] for row in self.rows if row["steps"]})

    @property
    def seeds(self) -> list[int]:
        """Seeds of the trained runs, ascending."""
        return sorted({row["seed"] for row in self.rows if row["steps"]})

    @functools.cached_property
    def laws(self) -> dict[str, Any]:
        """The laws fitted to headline metrics, see ``fit_laws``."""
        return fit_laws([row for row in self.rows if metrics.is_headline(row["metric"])])


def read_study(sweep: pathlib.Path, stats: str | pathlib.Path | None, captions: str | pathlib.Path | None) -> Study:
    """Reads the sweep in a folder, and the files that describe its corpus.

    Raises:
      UserError: no such sweep, no results in it, or a file of statistics that is something else.
    """
    corpus = [_corpus_file(stats, "stats", "splits"), _corpus_file(captions, "captions", "sources")]
    if not (sweep / SWEEP).is_file():
        raise UserError(f"--sweep {sweep} has no sweep.json: it is not a folder of 'alp sweep'")
    state, ledger = read_json(sweep / SWEEP, "sweep state"), Ledger(sweep / LEDGER)
    rows = [dict(row) for row in ledger.table()]
    if not rows:
        raise UserError(f"--sweep {sweep} has no results yet: run 'alp sweep' first")
    done = [sweep / RUNS / run["id"] for run in state["runs"] if run["status"] == "done"]
    configs = {run.name: read_json(run / CONFIG) for run in done if (run / CONFIG).is_file()}
    environments = [read_json(run / ENVIRONMENT) for run in done if (run / ENVIRONMENT).is_file()]
    varied = add_variants(rows, configs)  # first of all: without it ablated runs would count as seeds
    findings = (rows, varied, configs, environments, ledger.problems)
    return Study(sweep, state["name"], state["runs"], *findings, *corpus)


def _corpus_file(path: str | pathlib.Path | None, verb: str, key: str) -> dict[str, Any] | None:
    if path is None:
        return None
    content = read_json(path, f"--{verb}")
    if not isinstance(content, dict) or key not in content:
        raise UserError(f"--{verb} {path} is not what 'alp data {verb} --out FILE' writes: it has no {key!r}")
    return content


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
    except UserError as error:  # too few rungs is something to report, not a reason to stop
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
