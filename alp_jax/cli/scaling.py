"""``alp scaling``: fits, compares and reports the results of a sweep."""

import argparse
import dataclasses

from alp_jax.cli.parsers import add_action, add_best, numbers
from alp_jax.cli.scaling_questions import QUESTIONS, replica_count, where
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
    choose = add_action(actions, "choose", "ask every law to predict the top rung from those below", _CHOOSE_EXAMPLE)
    _add_axes(choose)
    choose.add_argument("--out", metavar="FILE", help="JSON file with every law's error")
    check = add_action(actions, "check", "plant laws, add noise, and see whether fits find them", _CHECK_EXAMPLE)
    check.add_argument("--law", default="power", metavar="NAME,...", help="forms to plant (default: power)")
    check.add_argument("--rungs", type=numbers(int, 3), default=[4, 5, 7, 10], metavar="N,...", help="rungs per input")
    check.add_argument(
        "--noise",
        type=numbers(float, 0.0),
        default=[0.003, 0.01, 0.03],
        metavar="SD,...",
        help="standard deviations of log error (default: 0.003,0.01,0.03)",
    )
    check.add_argument("--planted", type=replica_count, default=100, metavar="N", help="laws per line of the table")
    check.add_argument("--runs", type=int, choices=range(1, 11), default=3, metavar="N", help="runs per rung, 1 to 10")
    check.add_argument("--out", metavar="FILE", help="JSON file of the table")
    questions = [_add_question(actions, name) for name in QUESTIONS]
    for one in (fit, check, *questions):
        one.add_argument(
            "--replicas", type=replica_count, default=200, metavar="N", help="bootstrap replicas of each kind"
        )
    report = add_action(actions, "report", "write one self-contained HTML page about a sweep", _REPORT_EXAMPLE)
    report.add_argument("--sweep", required=True, metavar="DIR", help="sweep folder")
    report.add_argument("--stats", metavar="FILE", help="JSON of 'alp data stats' about the corpus")
    report.add_argument("--captions", metavar="FILE", help="JSON of 'alp data captions' about the corpus")
    report.add_argument("--out", required=True, metavar="DIR", help="folder for index.html and report.md")


def _add_table(parser: argparse.ArgumentParser) -> None:
    """Adds ``--ledger`` and the flags that say which errors its rows have."""
    parser.add_argument(
        "--ledger", required=True, metavar="FILE", help="ledger.jsonl of a sweep, or any .csv with a header"
    )
    parser.add_argument(
        "--y",
        default="error",
        metavar="COLUMN",
        help="column of the error (default: error, or without one the distance of value from the best of its metric)",
    )
    add_best(parser)


def _add_axes(parser: argparse.ArgumentParser) -> None:
    _add_table(parser)
    parser.add_argument(
        "--x",
        metavar="COLUMN,...",
        help="columns of the law's inputs (default: pairs; for data_model samples_seen,params; for repeated "
        "unique,epochs)",
    )
    parser.add_argument(
        "--group", metavar="COLUMN,...", help="columns that tell curves apart (default: those of the ledger)"
    )


def _add_question(actions, name: str) -> argparse.ArgumentParser:
    text, flags, settings = QUESTIONS[name]
    parser = add_action(actions, name, text, f"alp scaling {name} --ledger runs/mini/ledger.jsonl {flags}".rstrip())
    _add_table(parser)
    parser.add_argument(
        "--where", type=where, default={}, metavar="COLUMN=VALUE,...", help="only rows with these (default: all)"
    )
    parser.add_argument("--out", metavar="FILE", help="JSON file of the answers")
    for flag, options in settings.items():
        parser.add_argument(f"--{flag}", **options)
    return parser


def run(args: argparse.Namespace) -> dict:
    """Does the action and prints its lines; ``check`` fails where a target is missed."""
    actions = {"fit": _fit, "choose": _choose, "check": _check, "report": _report}
    result, lines = actions.get(args.action, _ask)(args)
    if not args.json:
        print("\n".join(lines))
    missed = [not one["met"] for one in result.get("outcomes", ())]
    if any(missed):
        raise AlpError(f"{sum(missed)} of {len(missed)} lines miss a median error below 5% or a coverage of 90%")
    return result


def _fit(args: argparse.Namespace) -> tuple[dict, list[str]]:
    from alp_jax.scaling.laws.curves_fit import fit_groups, fit_lines, write_fits
    from alp_jax.scaling.laws.read_table import read_table

    rows, problems = read_table(args.ledger, args.best)
    result, _ = fit_groups(rows, law=args.law, replicas=args.replicas, **_axes(args))
    files = write_fits(result, args.out)
    lines = [*fit_lines(result, problems), f"{len(result['fits'])} curves in {files[0]} and {files[1]}"]
    told = {"fits": len(result["fits"]), "left_out": sum(entry["count"] for entry in result["excluded"])}
    return told | {"problems": problems, "files": [str(f) for f in files]}, lines


def _choose(args: argparse.Namespace) -> tuple[dict, list[str]]:
    from alp_jax.core.files import write_json
    from alp_jax.scaling.laws.curves_fit import choice_lines, choose_table
    from alp_jax.scaling.laws.read_table import read_table

    rows, problems = read_table(args.ledger, args.best)
    result = choose_table(rows, **_axes(args))
    if args.out:
        write_json(args.out, result)
    return result | {"problems": problems}, choice_lines(result, problems)


def _check(args: argparse.Namespace) -> tuple[dict, list[str]]:
    from alp_jax.core.files import write_json
    from alp_jax.scaling.laws.check import check_laws, table_text

    settings = {"planted": args.planted, "seeds": args.runs, "replicas": args.replicas}
    outcomes = check_laws(args.law.split(","), args.rungs, args.noise, **settings)
    result = settings | {"outcomes": [dataclasses.asdict(one) | {"met": one.met} for one in outcomes]}
    if args.out:
        write_json(args.out, result)
    return result, [table_text(outcomes)]


def _ask(args: argparse.Namespace) -> tuple[dict, list[str]]:
    from alp_jax.core.files import write_json
    from alp_jax.scaling.questions.ask import ask

    settings = {name: vars(args)[name] for name in ("y", "replicas", *QUESTIONS[args.action][2])}
    answers, problems = ask(args.action, args.ledger, where=args.where, best=args.best, **settings)
    result = {"question": args.action, "answers": [dataclasses.asdict(one) for one in answers], "problems": problems}
    if args.out:
        write_json(args.out, result)
    return result, [line for answer in answers for line in answer.lines()] + [f"left out: {one}" for one in problems]


def _report(args: argparse.Namespace) -> tuple[dict, list[str]]:
    from alp_jax.scaling.report.page import write_report

    files = [str(file) for file in write_report(args.sweep, args.out, args.stats, args.captions)]
    return {"files": files}, [f"report: {files[0]}", f"as text: {files[1]}"]


def _axes(args: argparse.Namespace) -> dict:
    x, group = (text.split(",") if text else None for text in (args.x, args.group))
    return {"x": x, "y": args.y, "group": group}
