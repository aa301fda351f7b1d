"""The questions that ``alp scaling`` answers from a ledger, with intervals; add another as an entry here."""

import argparse

from alp_jax.cli.parsers import above_0
from alp_jax.core.errors import UserError

_SCALE = {"default": "pairs", "metavar": "COLUMN", "help": "column of the scale (default: pairs)"}
_BOTH = {"default": "objective", "metavar": "COLUMN", "help": "what both are values of (default: objective)"}
_LIMIT = {"type": above_0, "default": 1e9, "metavar": "X", "help": "look no further (default: 1e9)"}
_ASKED = "a parameter of the law (alpha, E), or a number: the input at which to know the error (default: alpha)"
_PLAN_EXAMPLE = "--budget_device_hours 20 --where task=tags,metric=map,pooling=mean"
QUESTIONS = {  # -> help, flags of the example, own settings
    "crossover": (
        "find where one objective overtakes another",
        "--a contrastive --b captioning --limit 1e9",
        {
            "a": {"required": True, "metavar": "VALUE", "help": "one side"},
            "b": {"required": True, "metavar": "VALUE", "help": "the other side"},
            "column": _BOTH,
            "x": _SCALE,
            "limit": _LIMIT,
        },
    ),
    "equivalent": (
        "say what a supervised start is worth in data, rung by rung",
        "--start supervised",
        {"start": {"required": True, "metavar": "INIT", "help": "its value in the column init"}, "x": _SCALE},
    ),
    "sources": ("say what each source is worth: left out, beside as many pairs, and alone", "", {}),
    "budget": (
        "find the best objective and model size for a compute budget",
        "--flops 1e18",
        {"flops": {"type": above_0, "required": True, "metavar": "N", "help": "operations of training"}},
    ),
    "plan": (
        "find the run within a budget that would tell the most",
        _PLAN_EXAMPLE,
        {
            "budget_device_hours": {
                "type": above_0,
                "required": True,
                "metavar": "N",
                "help": "what one run may cost",
            },
            "ask": {"default": "alpha", "metavar": "WHAT", "help": _ASKED},
            "devices": {"type": above_0, "default": 1.0, "metavar": "N", "help": "devices of each run (default: 1)"},
            "x": _SCALE,
        },
    ),
}


def where(text: str) -> dict[str, str]:
    """The type of ``--where``."""
    parts = [part.partition("=") for part in text.split(",")]
    if not all(column and sign for column, sign, _ in parts):
        raise UserError(f"--where {text}: expected COLUMN=VALUE with commas between them")
    return {column: value for column, _, value in parts}


def replica_count(text: str) -> int:
    """The type of a number of replicas or of planted laws."""
    value = int(text) if text.isdigit() else 0
    if not 20 <= value <= 100_000:
        raise argparse.ArgumentTypeError("it must be a whole number from 20 to 100000")
    return value
