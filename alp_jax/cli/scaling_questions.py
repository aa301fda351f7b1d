"""``alp scaling crossover, equivalent, sources, budget, plan``: what a ledger answers, with intervals."""

import argparse
import dataclasses

from alp_jax.cli.parsers import add_action, add_best
from alp_jax.core.errors import UserError

QUESTIONS = {  # -> its own settings
    "crossover": ("a", "b", "column", "x", "limit"),
    "equivalent": ("start", "x"),
    "sources": (),
    "budget": ("flops",),
    "plan": ("budget_device_hours", "ask", "x", "devices"),
}


def add_questions(actions) -> None:
    """Adds an action per question to the parser of ``alp scaling``."""
    crossover = _add(
        actions, "crossover", "find where one objective overtakes another", "--a contrastive --b captioning --limit 1e9"
    )
    crossover.add_argument("--a", required=True, metavar="VALUE", help="one side")
    crossover.add_argument("--b", required=True, metavar="VALUE", help="the other side")
    crossover.add_argument(
        "--column", default="objective", metavar="COLUMN", help="what both are values of (default: objective)"
    )
    crossover.add_argument("--x", default="pairs", metavar="COLUMN", help="column of the scale (default: pairs)")
    crossover.add_argument("--limit", type=_above_0, default=1e9, metavar="X", help="look no further (default: 1e9)")
    equivalent = _add(
        actions, "equivalent", "say what a supervised start is worth in data, rung by rung", "--start supervised"
    )
    equivalent.add_argument("--start", required=True, metavar="INIT", help="its value in the column init")
    equivalent.add_argument("--x", default="pairs", metavar="COLUMN", help="column of the scale (default: pairs)")
    _add(actions, "sources", "say what each source is worth: left out, beside as many pairs, and alone", "")
    budget = _add(actions, "budget", "find the best objective and model size for a compute budget", "--flops 1e18")
    budget.add_argument("--flops", type=_above_0, required=True, metavar="N", help="operations of training")
    plan = _add(
        actions,
        "plan",
        "find the affordable run after which the answer would be known best",
        "--budget_device_hours 20 --where task=tags,metric=map,pooling=mean",
    )
    plan.add_argument("--budget_device_hours", type=_above_0, required=True, metavar="N", help="what one run may cost")
    plan.add_argument(
        "--ask",
        default="alpha",
        metavar="WHAT",
        help="a parameter of the law (alpha, E), or a number: the input at which to know the error (default: alpha)",
    )
    plan.add_argument("--devices", type=_above_0, default=1.0, metavar="N", help="that each run held (default: 1)")
    plan.add_argument("--x", default="pairs", metavar="COLUMN", help="column of the scale (default: pairs)")


def run(args: argparse.Namespace) -> dict:
    """Answers one question about the table ``args.ledger``."""
    from alp_jax.core.files import write_json
    from alp_jax.scaling.questions.ask import ask

    settings = {name: vars(args)[name] for name in ("y", "replicas", *QUESTIONS[args.action])}
    answers, problems = ask(args.action, args.ledger, where=args.where, best=args.best, **settings)
    result = {"question": args.action, "answers": [dataclasses.asdict(one) for one in answers], "problems": problems}
    if args.out:
        write_json(args.out, result)
    if not args.json:
        lines = [line for answer in answers for line in answer.lines()] + [f"left out: {one}" for one in problems]
        print("\n".join(lines))
    return result


def _add(actions, name: str, text: str, flags: str) -> argparse.ArgumentParser:
    parser = add_action(actions, name, text, f"alp scaling {name} --ledger runs/mini/ledger.jsonl {flags}".rstrip())
    add_table(parser)
    parser.add_argument(
        "--where", type=_where, default={}, metavar="COLUMN=VALUE,...", help="only rows with these (default: all)"
    )
    parser.add_argument(
        "--replicas", type=replica_count, default=200, metavar="N", help="bootstrap replicas of each kind"
    )
    parser.add_argument("--out", metavar="FILE", help="JSON file of the answers")
    return parser


def add_table(parser: argparse.ArgumentParser) -> None:
    """``--ledger``, and what says which errors its rows have."""
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


def _where(text: str) -> dict[str, str]:
    parts = [part.partition("=") for part in text.split(",")]
    if not all(column and sign for column, sign, _ in parts):
        raise UserError(f"--where {text}: expected COLUMN=VALUE with commas between them")
    return {column: value for column, _, value in parts}


def _above_0(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("a number above 0")
    return value


def replica_count(text: str) -> int:
    """A number of replicas or of planted laws on the command line."""
    value = int(text) if text.isdigit() else 0
    if not 20 <= value <= 100_000:
        raise argparse.ArgumentTypeError("a whole number from 20 to 100000")
    return value
