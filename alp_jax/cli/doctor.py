"""``alp doctor``: checks what these machines offer against what a run expects."""

import argparse
import os

from alp_jax.cli.cluster import add_cluster_arguments, cluster_config
from alp_jax.cli.parsers import CONFIG_HELP
from alp_jax.config.flags import given_config
from alp_jax.core.errors import UserError

EXAMPLE = "alp doctor --config=configs/pretrain.py --config.mesh.fsdp=8 --devices 64"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--path", default=".", metavar="DIR", help="folder whose free disk space is shown")
    parser.add_argument("--config", metavar="FILE[:ARGS]", help=f"fail where its mesh does not fit; {CONFIG_HELP}")
    parser.add_argument("--devices", type=int, metavar="N", help="fail unless all hosts together have this many")
    parser.add_argument("--megabytes", type=float, default=16.0, metavar="MB", help="of the array that is summed")
    add_cluster_arguments(parser)


def run(args: argparse.Namespace) -> dict:
    config = given_config(args.config, args.overrides)
    if not os.path.isdir(args.path):
        raise UserError(f"--path {args.path} is not a folder")
    from alp_jax.objectives.registry import check_objective
    from alp_jax.parallel import hosts
    from alp_jax.parallel.checkup import check_machines, report_lines
    from alp_jax.parallel.runtime import setup_runtime

    if config:
        check_objective(config)
    setup_runtime()
    hosts.initialize(cluster_config(args))
    report = check_machines(config, args.path, args.devices, args.megabytes)
    if hosts.is_primary() and not args.json:
        print(*report_lines(report), sep="\n")
    return report
