"""Parsers and flags that verbs share: one-line errors, help with an example, ``--json``, ``--config``."""

import argparse
import dataclasses
import math
from collections.abc import Callable

from alp_jax.core.errors import UserError

JSON_HELP = "end with one JSON line on standard output"
CONFIG_HELP = "config file and its arguments, FILE.py:key=value,...; any setting is a flag too: --config.optim.lr=0.01"


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors."""

    def error(self, message):
        raise UserError(f"{message}; see '{self.prog} --help'")


def help_options(text: str, example: str) -> dict:
    """What ``Parser`` needs so that ``--help`` says what a verb does and ends with an example."""
    return {
        "description": text[0].upper() + text[1:] + ".",
        "epilog": f"example:\n  {example}",
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,
    }


def add_action(actions, name: str, text: str, example: str) -> argparse.ArgumentParser:
    """Adds the action ``alp VERB name`` to ``parser.add_subparsers(...)`` and returns its parser."""
    parser = actions.add_parser(name, help=text, **help_options(text, example))
    # SUPPRESS: without it the action's default would undo a --json given before the action
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=JSON_HELP)
    return parser


def fields_of(kind: type, args: argparse.Namespace) -> dict:
    """The arguments that a dataclass has fields for."""
    return {field.name: vars(args)[field.name] for field in dataclasses.fields(kind) if field.name in args}


def add_best(parser: argparse.ArgumentParser) -> None:
    """Adds ``--best``, which makes other tools' metrics usable."""
    parser.add_argument(
        "--best",
        type=_best_values,
        default={},
        metavar="METRIC=VALUE,...",
        help="metrics of other tools that count too, each with the value of a perfect result: wer=0",
    )


def _best_values(text: str) -> dict[str, float]:
    """``wer=0,f1=1``: metrics of other tools with the value of a perfect result."""
    best = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            best[name.strip()] = float(value)
        except ValueError:
            best[""] = math.nan
    if "" in best or not all(map(math.isfinite, best.values())):
        raise argparse.ArgumentTypeError("expected METRIC=VALUE with commas between them, such as wer=0")
    return best


def above_0(text: str) -> float:
    """The type of a flag that takes a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("it must be a number above 0")
    return value


def numbers(kind: type, least: float) -> Callable[[str], list]:
    """The type of a flag that takes several numbers of a kind, from ``least`` on."""

    def parse(text: str) -> list:
        try:
            values = [kind(part) for part in text.split(",")]
        except ValueError:
            values = []
        if not values or not all(least <= value < 1e3 for value in values):
            raise argparse.ArgumentTypeError(f"it must be numbers of {least:g} or more with commas between them")
        return values

    return parse


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    """Adds ``--config`` and ``--help_settings``; ``--config.key=value`` flags arrive in ``args.overrides``."""
    parser.add_argument(
        "--config", required=True, metavar="FILE[:ARGS]", help=f"{CONFIG_HELP} (--help_settings lists them)"
    )
    parser.add_argument(
        "--help_settings",
        action=_HelpSettings,
        help="print every setting with its default, range and meaning, and exit",
    )


class _HelpSettings(argparse.Action):
    """Prints the table of settings in place of running the verb."""

    def __init__(self, **options):
        super().__init__(nargs=0, **options)

    def __call__(self, parser, namespace, values, option_string=None):
        from alp_jax.config.settings_help import settings_help

        print(settings_help())
        parser.exit()
