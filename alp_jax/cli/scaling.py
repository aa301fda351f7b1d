"""``alp scaling fit`` and ``alp scaling report``: what a sweep's numbers say."""

import argparse
from collections import Counter

from alp_jax.cli.parsers import add_action

EXAMPLE = "alp scaling fit --ledger runs/mini/ledger.jsonl --out report"
_REPORT_EXAMPLE = (
    "alp scaling report --sweep runs/mini --stats data/stats.json --captions data/captions.json --out report"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    fit = add_action(actions, "fit", "fit a scaling law to every curve of a ledger or CSV", EXAMPLE)
    fit.add_argument(
        "--ledger", required=True, metavar="FILE", help="ledger.jsonl of a sweep, or any .csv with a header"
    )
    fit.add_argument("--out", required=True, metavar="DIR", help="folder for fits.json and fits.csv")
    fit.add_argument(
        "--law", default="power", metavar="NAME", help="power (default), data_model, repeated, saturating or broken"
    )
    fit.add_argument(
        "--x",
        metavar="COLUMN,...",
        help="columns of the law's inputs (default: pairs; for data_model samples_seen,params; for repeated "
        "unique,epochs)",
    )
    fit.add_argument(
        "--y", default="error", metavar="COLUMN", help="column of the error (default: error, or 1 - value without one)"
    )
    fit.add_argument(
        "--group", metavar="COLUMN,...", help="columns that tell curves apart (default: those of the ledger)"
    )
    fit.add_argument("--replicas", type=_count, default=200, metavar="N", help="bootstrap replicas of each kind")
    report = add_action(actions, "report", "write one self-contained HTML page about a sweep", _REPORT_EXAMPLE)
    report.add_argument("--sweep", required=True, metavar="DIR", help="sweep folder")
    report.add_argument("--stats", metavar="FILE", help="JSON of 'alp data stats' about the corpus")
    report.add_argument("--captions", metavar="FILE", help="JSON of 'alp data captions' about the corpus")
    report.add_argument("--out", required=True, metavar="DIR", help="folder for index.html and report.md")


def run(args: argparse.Namespace) -> dict:
    return _fit(args) if args.action == "fit" else _report(args)


def _fit(args: argparse.Namespace) -> dict:
    from alp_jax.scaling.reading import read_table
    from alp_jax.scaling.table import fit_table, write_fits

    rows, problems = read_table(args.ledger)
    group, x = (text.split(",") if text else None for text in (args.group, args.x))
    result = fit_table(rows, law=args.law, x=x, y=args.y, group=group, replicas=args.replicas)
    files = write_fits(result, args.out)
    if not args.json:
        for fit in result["fits"]:
            name = " ".join(fit["group"].values())
            values = (f"{key} {_range(value, fit['interval'][key])}" for key, value in fit["params"].items())
            print(f"{name}: {'  '.join(values)}  {fit['runs']} runs, {fit['rungs']} rungs")
        for warning, count in Counter(w for fit in result["fits"] for w in fit["warnings"]).most_common():
            print(f"warning: {count} of {len(result['fits'])} curves: {warning}")
        for entry in result["excluded"]:
            print(f"left out: {entry['count']} rows: {entry['reason']}, such as {entry['examples'][0]}")
        for problem in problems:
            print(f"left out: {problem}")
        print(f"{len(result['fits'])} curves in {files[0]} and {files[1]}")
    left_out = sum(entry["count"] for entry in result["excluded"])
    return {"fits": len(result["fits"]), "left_out": left_out, "problems": problems, "files": [str(f) for f in files]}


def _report(args: argparse.Namespace) -> dict:
    from alp_jax.scaling.report import write_report

    files = write_report(args.sweep, args.out, args.stats, args.captions)
    if not args.json:
        print(f"report: {files[0]}\nas text: {files[1]}")
    return {"files": [str(file) for file in files]}


def _range(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.3g} [{interval[0]:.3g}, {interval[1]:.3g}]"


def _count(text: str) -> int:
    value = int(text) if text.isdigit() else 0
    if not 20 <= value <= 100_000:
        raise argparse.ArgumentTypeError("a whole number from 20 to 100000")
    return value
