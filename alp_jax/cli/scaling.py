"""``alp scaling``: what a sweep's numbers say."""

import argparse
import dataclasses
from collections.abc import Callable

from alp_jax.cli import scaling_questions
from alp_jax.cli.parsers import add_action
from alp_jax.cli.scaling_questions import add_table, replica_count
from alp_jax.core.errors import AlpError

EXAMPLE = "alp scaling fit --ledger runs/mini/ledger.jsonl --out report"
_CHOOSE_EXAMPLE = "alp scaling choose --ledger runs/mini/ledger.jsonl --out report/laws.json"
_CHECK_EXAMPLE = "alp scaling check --law power,data_model --rungs 4,7 --noise 0.01"
_REPORT_EXAMPLE = (
    "alp scaling report --sweep runs/mini --stats data/stats.json --captions data/captions.json --out report"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    fit = add_action(actions, "fit", "fit a scaling law to every curve of a ledger or CSV", EXAMPLE)
    _add_axes(fit)
    fit.add_argument("--out", required=True, metavar="DIR", help="folder for fits.json and fits.csv")
    fit.add_argument(
        "--law", default="power", metavar="NAME", help="power (default), data_model, repeated, saturating or broken"
    )
    fit.add_argument("--replicas", type=replica_count, default=200, metavar="N", help="bootstrap replicas of each kind")
    choose = add_action(actions, "choose", "ask every law to predict the top rung from those below", _CHOOSE_EXAMPLE)
    _add_axes(choose)
    choose.add_argument("--out", metavar="FILE", help="JSON file with every law's error")
    check = add_action(actions, "check", "plant laws, add noise, and see whether fits find them", _CHECK_EXAMPLE)
    check.add_argument("--law", default="power", metavar="NAME,...", help="forms to plant (default: power)")
    check.add_argument("--rungs", type=_numbers(int, 3), default=[4, 5, 7, 10], metavar="N,...", help="rungs per input")
    check.add_argument(
        "--noise",
        type=_numbers(float, 0.0),
        default=[0.003, 0.01, 0.03],
        metavar="SD,...",
        help="standard deviations of log error (default: 0.003,0.01,0.03)",
    )
    check.add_argument("--planted", type=replica_count, default=100, metavar="N", help="laws per line of the table")
    check.add_argument("--runs", type=int, choices=range(1, 11), default=3, metavar="N", help="runs per rung, 1 to 10")
    check.add_argument(
        "--replicas", type=replica_count, default=200, metavar="N", help="bootstrap replicas of each kind"
    )
    check.add_argument("--out", metavar="FILE", help="JSON file of the table")
    scaling_questions.add_questions(actions)
    report = add_action(actions, "report", "write one self-contained HTML page about a sweep", _REPORT_EXAMPLE)
    report.add_argument("--sweep", required=True, metavar="DIR", help="sweep folder")
    report.add_argument("--stats", metavar="FILE", help="JSON of 'alp data stats' about the corpus")
    report.add_argument("--captions", metavar="FILE", help="JSON of 'alp data captions' about the corpus")
    report.add_argument("--out", required=True, metavar="DIR", help="folder for index.html and report.md")


def run(args: argparse.Namespace) -> dict:
    if args.action in scaling_questions.QUESTIONS:
        return scaling_questions.run(args)
    return {"fit": _fit, "choose": _choose, "check": _check, "report": _report}[args.action](args)


def _add_axes(parser: argparse.ArgumentParser) -> None:
    add_table(parser)
    parser.add_argument(
        "--x",
        metavar="COLUMN,...",
        help="columns of the law's inputs (default: pairs; for data_model samples_seen,params; for repeated "
        "unique,epochs)",
    )
    parser.add_argument(
        "--group", metavar="COLUMN,...", help="columns that tell curves apart (default: those of the ledger)"
    )


def _fit(args: argparse.Namespace) -> dict:
    from alp_jax.scaling.laws.curves_fit import fit_lines, fit_table, write_fits
    from alp_jax.scaling.laws.read_table import read_table

    rows, problems = read_table(args.ledger, args.best)
    result = fit_table(rows, law=args.law, replicas=args.replicas, **_axes(args))
    files = write_fits(result, args.out)
    _show(args, [*fit_lines(result, problems), f"{len(result['fits'])} curves in {files[0]} and {files[1]}"])
    left_out = sum(entry["count"] for entry in result["excluded"])
    return {"fits": len(result["fits"]), "left_out": left_out, "problems": problems, "files": [str(f) for f in files]}


def _choose(args: argparse.Namespace) -> dict:
    from alp_jax.core.files import write_json
    from alp_jax.scaling.laws.curves_fit import choice_lines, choose_table
    from alp_jax.scaling.laws.read_table import read_table

    rows, problems = read_table(args.ledger, args.best)
    result = choose_table(rows, **_axes(args))
    if args.out:
        write_json(args.out, result)
    _show(args, choice_lines(result, problems))
    return result | {"problems": problems}


def _check(args: argparse.Namespace) -> dict:
    """Exits with 1 where a target is missed."""
    from alp_jax.core.files import write_json
    from alp_jax.scaling.laws.check import check_laws, table_text

    settings = {"planted": args.planted, "seeds": args.runs, "replicas": args.replicas}
    outcomes = check_laws(args.law.split(","), args.rungs, args.noise, **settings)
    result = settings | {"outcomes": [dataclasses.asdict(one) | {"met": one.met} for one in outcomes]}
    if args.out:
        write_json(args.out, result)
    _show(args, [table_text(outcomes)])
    missed = sum(not one.met for one in outcomes)
    if missed:
        raise AlpError(f"{missed} of {len(outcomes)} lines miss a median error below 5% or a coverage of 90%")
    return result


def _report(args: argparse.Namespace) -> dict:
    from alp_jax.scaling.report.page import write_report

    files = write_report(args.sweep, args.out, args.stats, args.captions)
    _show(args, [f"report: {files[0]}", f"as text: {files[1]}"])
    return {"files": [str(file) for file in files]}


def _axes(args: argparse.Namespace) -> dict:
    x, group = (text.split(",") if text else None for text in (args.x, args.group))
    return {"x": x, "y": args.y, "group": group}


def _show(args: argparse.Namespace, lines: list[str]) -> None:
    if not args.json and lines:
        print("\n".join(lines))


def _numbers(kind: type, least: float) -> Callable[[str], list]:
    def parse(text: str) -> list:
        try:
            values = [kind(part) for part in text.split(",")]
        except ValueError:
            values = []
        if not values or not all(least <= value < 1e3 for value in values):
            raise argparse.ArgumentTypeError(f"numbers from {least:g} on with commas between them")
        return values

    return parse
