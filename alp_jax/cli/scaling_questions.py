"""``alp scaling crossover, equivalent, sources, budget, plan``: what a ledger answers, with intervals."""

import argparse
import dataclasses
from typing import Any

from alp_jax.cli.parsers import add_action, add_best
from alp_jax.core.errors import UserError

QUESTIONS = ("crossover", "equivalent", "sources", "budget", "plan")
_SHOWN = 10  # candidates of a plan that are printed


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
    from alp_jax.scaling.laws.curves import keep_rows, state_best
    from alp_jax.scaling.laws.read_table import read_table

    rows, problems = read_table(args.ledger)
    rows = state_best(keep_rows(rows, args.where), args.best)
    answers = {
        "crossover": _crossover,
        "equivalent": _equivalent,
        "sources": _sources,
        "budget": _budget,
        "plan": _plan,
    }[args.action](args, rows)
    result = {"question": args.action, "answers": [dataclasses.asdict(a) for a, _ in answers], "problems": problems}
    if args.out:
        write_json(args.out, result)
    if not args.json:
        for answer, lines in answers:
            group = " ".join(answer.group.values()) if hasattr(answer, "group") else f"asked: {answer.asked}"
            for line in (group, *(f"  {line}" for line in lines), *(f"  warning: {w}" for w in _warnings(answer))):
                print(line)
        for problem in problems:
            print(f"left out: {problem}")
    return result


Answers = list[tuple[Any, list[str]]]


def _crossover(args: argparse.Namespace, rows: list[dict]) -> Answers:
    from alp_jax.scaling.questions.crossover import ask_crossover

    settings = {"column": args.column, "x": args.x, "y": args.y, "limit": args.limit, "replicas": args.replicas}
    return [(answer, [str(answer)]) for answer in ask_crossover(rows, args.a, args.b, **settings)]


def _equivalent(args: argparse.Namespace, rows: list[dict]) -> Answers:
    from alp_jax.scaling.questions.equivalent import ask_equivalent

    found = ask_equivalent(rows, args.start, x=args.x, y=args.y, replicas=args.replicas)
    return [(answer, [str(rung) for rung in answer.rungs] + _fade(answer)) for answer in found]


def _fade(answer: Any) -> list[str]:
    if answer.fade is None:
        return []
    numbers = ", ".join(f"{100 * end:.2f}" for end in answer.fade_interval)
    return [f"its gain changes by {100 * answer.fade:.2f} [{numbers}] percent of the error per tenfold data"]


def _sources(args: argparse.Namespace, rows: list[dict]) -> Answers:
    from alp_jax.scaling.questions.sources import add_sources, ask_sources

    found = ask_sources(add_sources(rows, args.ledger), y=args.y, replicas=args.replicas)
    return [(answer, [str(worth) for worth in answer.sources]) for answer in found]


def _budget(args: argparse.Namespace, rows: list[dict]) -> Answers:
    from alp_jax.scaling.questions.budget import ask_budget

    found = ask_budget(rows, args.flops, y=args.y, replicas=args.replicas)
    return [(answer, [str(plan) for plan in answer.plans]) for answer in found]


def _plan(args: argparse.Namespace, rows: list[dict]) -> Answers:
    from alp_jax.scaling.questions.next_run import ask_next_run

    settings = {"ask": args.ask, "x": args.x, "y": args.y, "devices": args.devices, "replicas": args.replicas}
    found = ask_next_run(rows, args.budget_device_hours, **settings)
    lines = [str(candidate) for candidate in found.candidates[:_SHOWN]]
    return [(found, [*lines, f"{found.too_expensive} candidates cost more than the budget"])]


def _warnings(answer: Any) -> list[str]:
    own = list(getattr(answer, "warnings", []))
    for plan in getattr(answer, "plans", []):
        own += [f"{plan.objective}: {warning}" for warning in plan.warnings]
    return own


def _add(actions, name: str, text: str, flags: str) -> argparse.ArgumentParser:
    parser = add_action(actions, name, text, f"alp scaling {name} --ledger runs/mini/ledger.jsonl {flags}".rstrip())
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
    parser.add_argument(
        "--where", type=_where, default={}, metavar="COLUMN=VALUE,...", help="only rows with these (default: all)"
    )
    parser.add_argument(
        "--replicas", type=replica_count, default=200, metavar="N", help="bootstrap replicas of each kind"
    )
    parser.add_argument("--out", metavar="FILE", help="JSON file of the answers")
    return parser


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
