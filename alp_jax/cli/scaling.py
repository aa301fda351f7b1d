"""``alp scaling``: what a sweep's numbers say."""

import argparse
from collections import Counter
from collections.abc import Callable

from alp_jax.cli import scaling_questions
from alp_jax.cli.parsers import add_action, add_best
from alp_jax.cli.scaling_questions import replica_count

EXAMPLE = "alp scaling fit --ledger runs/mini/ledger.jsonl --out report"
_CHOOSE_EXAMPLE = "alp scaling choose --ledger runs/mini/ledger.jsonl --out report/laws.json"
_CHECK_EXAMPLE = "alp scaling check --law power,data_model --rungs 4,7 --noise 0.01"
_REPORT_EXAMPLE = (
    "alp scaling report --sweep runs/mini --stats data/stats.json --captions data/captions.json --out report"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    fit = add_action(actions, "fit", "fit a scaling law to every curve of a ledger or CSV", EXAMPLE)
    _add_table(fit)
    fit.add_argument("--out", required=True, metavar="DIR", help="folder for fits.json and fits.csv")
    fit.add_argument(
        "--law", default="power", metavar="NAME", help="power (default), data_model, repeated, saturating or broken"
    )
    fit.add_argument("--replicas", type=replica_count, default=200, metavar="N", help="bootstrap replicas of each kind")
    choose = add_action(actions, "choose", "ask every law to predict the top rung from those below", _CHOOSE_EXAMPLE)
    _add_table(choose)
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


def _add_table(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ledger", required=True, metavar="FILE", help="ledger.jsonl of a sweep, or any .csv with a header"
    )
    parser.add_argument(
        "--x",
        metavar="COLUMN,...",
        help="columns of the law's inputs (default: pairs; for data_model samples_seen,params; for repeated "
        "unique,epochs)",
    )
    parser.add_argument(
        "--y",
        default="error",
        metavar="COLUMN",
        help="column of the error (default: error, or without one the distance of value from the best of its metric)",
    )
    add_best(parser)
    parser.add_argument(
        "--group", metavar="COLUMN,...", help="columns that tell curves apart (default: those of the ledger)"
    )


def _columns(text: str | None) -> list[str] | None:
    return text.split(",") if text else None


def _fit(args: argparse.Namespace) -> dict:
    from alp_jax.scaling.laws.curves import state_best
    from alp_jax.scaling.laws.curves_fit import fit_table, write_fits
    from alp_jax.scaling.laws.read_table import read_table

    rows, problems = read_table(args.ledger)
    rows, group = state_best(rows, args.best), _columns(args.group)
    result = fit_table(rows, law=args.law, x=_columns(args.x), y=args.y, group=group, replicas=args.replicas)
    files = write_fits(result, args.out)
    if not args.json:
        for fit in result["fits"]:
            name = " ".join(fit["group"].values())
            values = (f"{key} {_range(value, fit['interval'][key])}" for key, value in fit["params"].items())
            print(f"{name}: {'  '.join(values)}  {fit['runs']} runs, {fit['rungs']} rungs")
        for warning, count in Counter(w for fit in result["fits"] for w in fit["warnings"]).most_common():
            print(f"warning: {count} of {len(result['fits'])} curves: {warning}")
        _print_left_out(result["excluded"], problems)
        print(f"{len(result['fits'])} curves in {files[0]} and {files[1]}")
    left_out = sum(entry["count"] for entry in result["excluded"])
    return {"fits": len(result["fits"]), "left_out": left_out, "problems": problems, "files": [str(f) for f in files]}


def _choose(args: argparse.Namespace) -> dict:
    from alp_jax.core.files import write_json
    from alp_jax.scaling.laws.curves import state_best
    from alp_jax.scaling.laws.curves_fit import choose_table
    from alp_jax.scaling.laws.read_table import read_table

    rows, problems = read_table(args.ledger)
    result = choose_table(state_best(rows, args.best), x=_columns(args.x), y=args.y, group=_columns(args.group))
    if args.out:
        write_json(args.out, result)
    if not args.json:
        for entry in result["choices"]:
            errors = "  ".join(f"{law} {100 * error:.2f}%" for law, error in entry["errors"].items())
            print(f"{' '.join(entry['group'].values())}: {entry['law'] or 'no law can be held out'}  {errors}")
            for note in (*(f"{law}: {why}" for law, why in entry["refused"].items()), *entry["warnings"]):
                print(f"  {note}")
        _print_left_out(result["excluded"], problems)
    return result | {"problems": problems}


def _check(args: argparse.Namespace) -> dict:
    """Exits with 1 where a target is missed."""
    import dataclasses

    from alp_jax.core.errors import AlpError
    from alp_jax.core.files import write_json
    from alp_jax.core.progress import Progress
    from alp_jax.scaling.laws.check import check_laws, table_text

    laws = args.law.split(",")
    settings = {"planted": args.planted, "seeds": args.runs, "replicas": args.replicas}
    with Progress("check laws", len(laws) * len(args.rungs) * len(args.noise) * args.planted, "fits") as progress:
        outcomes = list(check_laws(laws, args.rungs, args.noise, tick=progress.update, **settings))
    result = settings | {"outcomes": [dataclasses.asdict(o) | {"met": o.met} for o in outcomes]}
    if args.out:
        write_json(args.out, result)
    if not args.json:
        print(table_text(outcomes))
    missed = sum(not o.met for o in outcomes)
    if missed:
        raise AlpError(f"{missed} of {len(outcomes)} lines miss a median error below 5% or a coverage of 90%")
    return result


def _print_left_out(excluded: list[dict], problems: list[str]) -> None:
    for entry in excluded:
        print(f"left out: {entry['count']} rows: {entry['reason']}, such as {entry['examples'][0]}")
    for problem in problems:
        print(f"left out: {problem}")


def _report(args: argparse.Namespace) -> dict:
    from alp_jax.scaling.report.page import write_report

    files = write_report(args.sweep, args.out, args.stats, args.captions)
    if not args.json:
        print(f"report: {files[0]}\nas text: {files[1]}")
    return {"files": [str(file) for file in files]}


def _range(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.3g} [{interval[0]:.3g}, {interval[1]:.3g}]"


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
