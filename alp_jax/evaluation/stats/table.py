"""Results for people: a table with baselines and the paper's numbers, and lines with what qualifies them."""

from collections.abc import Mapping

from alp_jax.core.metrics import is_headline, title
from alp_jax.evaluation.stats.completeness import completeness_lines
from alp_jax.evaluation.table import Shortage

_SHOWN = 3  # classes that a line names


def table(results: list[dict], baselines: dict[str, list[dict]]) -> str:
    """A line per (task, pooling): value and interval, then chance, floor, baselines and the paper's encoders."""
    others = {name: {(r["task"], r["pooling"]): r for r in some} for name, some in baselines.items()}
    heads = ["chance", "floor", *others]
    rows = [["task", "pooling", "metric", "value", "95% interval", *heads, "paper"]]
    for r in results:
        if "failed" in r:
            rows.append([r["task"], r["pooling"], f"failed: {r['failed']}", *[""] * (len(heads) + 3)])
            continue
        beside = [some.get((r["task"], r["pooling"]), {}).get("value") for some in others.values()]
        values, paper = [r["chance"], r["floor"], *beside], r["published"].values()
        if r.get("published_metric", r["metric"]) != r["metric"]:  # those are no values of this row
            paper = ()
        rows.append(
            [r["task"], r["pooling"], r["metric"], _number(r["value"]), _interval(r["interval"])]
            + [_number(value) for value in values]
            + [f"{min(paper):.3f} to {max(paper):.3f}" if paper else "-"]
        )
    widths = [max(len(row[k]) for row in rows if not row[2].startswith("failed")) for k in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(interval: list[float] | None) -> str:
    return "-" if interval is None else f"[{interval[0]:.3f}, {interval[1]:.3f}]"


def notes(results: list[dict]) -> list[str]:
    """Lines for every task that lacks clips or classes, reads clips short or has a headline metric not computed."""
    by_task = {r["task"]: r for r in results if "failed" not in r}
    lines = []
    for task, r in by_task.items():
        lines += completeness_lines(task, r.get("missing", {"unknown": ""}))
        cut = r.get("cut", {"clips": 0})
        if cut["clips"]:
            lines.append(f"{task}: {cut['clips']} clips are longer than {cut['seconds']:g} s and cut to it")
        if r.get("dropped"):
            names = ", ".join(f"{name} ({why})" for name, why in list(r["dropped"].items())[:_SHOWN])
            more = f" and {len(r['dropped']) - _SHOWN} more" if len(r["dropped"]) > _SHOWN else ""
            lines.append(f"{task}: too small to count: {names}{more}")
    skipped = {(r["task"], name, why) for r in results for name, why in r.get("skipped", {}).items()}
    return lines + [f"{task}: no {title(name)}: {why}" for task, name, why in sorted(skipped) if is_headline(name)]


def overlaps(results: list[dict]) -> list[str]:
    """Lines about test clips that were trained on: one per task that has any, and one per reason not to know."""
    by_task = {r["task"]: r["overlap"] for r in results if "overlap" in r}
    unknown = {shares["unknown"] for shares in by_task.values() if "unknown" in shares}
    lines = [f"test clips that were trained on: {why}" for why in sorted(unknown)]
    for task, shares in by_task.items():
        if shares.get("any"):
            kinds = ", ".join(f"{share:.1%} by {kind}" for kind, share in shares.items() if share and kind != "any")
            lines.append(f"{task}: {shares['any']:.1%} of the test clips were trained on ({kinds})")
    return lines or ["no test clip was trained on"]


def too_small(shortages: Mapping[str, Shortage]) -> list[str]:
    """A line per reason, naming all the tasks that the data set is too small for because of it."""
    same: dict[str, list[str]] = {}
    for name, shortage in shortages.items():
        same.setdefault(str(shortage), []).append(name)
    return [f"{', '.join(names)}: {shortage}" for shortage, names in same.items()]
