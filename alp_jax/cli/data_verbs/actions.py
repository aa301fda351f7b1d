"""``alp data``: fetch, build, merge, verify, describe and plan data sets; one module per action."""

import argparse
import functools

from alp_jax.cli.data_verbs import audit, build, captions, fetch, merge, plan, stats, verify
from alp_jax.cli.parsers import add_action

EXAMPLE = "alp data fetch mini && alp data build mini --out data/mini && alp data stats data/mini"
# action -> module with ``add(action)``, which declares its arguments, and ``run(args)``; heavy imports go into run
ACTIONS = {
    "fetch": fetch,
    "build": build,
    "merge": merge,
    "verify": verify,
    "stats": stats,
    "audit": audit,
    "captions": captions,
    "plan": plan,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for module in ACTIONS.values():
        module.add(functools.partial(add_action, actions))


def run(args: argparse.Namespace) -> dict:
    return ACTIONS[args.action].run(args)
