"""``alp data``: fetch, build, merge, verify, describe and plan data sets; one module per action."""

import argparse
import functools

from alp_jax.cli import (
    data_audit,
    data_build,
    data_captions,
    data_fetch,
    data_merge,
    data_plan,
    data_stats,
    data_verify,
)
from alp_jax.cli.parsers import add_action

EXAMPLE = "alp data fetch mini && alp data build mini --out data/mini && alp data stats data/mini"
# action -> module with ``add(action)``, which declares its arguments, and ``run(args)``; heavy imports go into run
ACTIONS = {
    "fetch": data_fetch,
    "build": data_build,
    "merge": data_merge,
    "verify": data_verify,
    "stats": data_stats,
    "audit": data_audit,
    "captions": data_captions,
    "plan": data_plan,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for module in ACTIONS.values():
        module.add(functools.partial(add_action, actions))


def run(args: argparse.Namespace) -> dict:
    return ACTIONS[args.action].run(args)
