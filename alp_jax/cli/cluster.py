"""Flags that make a command one process of a run of several."""

import argparse

from alp_jax.config.schema import CLUSTERS, ClusterConfig


def add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--cluster``, ``--coordinator``, ``--num_processes``, ``--process_id`` and their two limits."""
    default = ClusterConfig()
    group = parser.add_argument_group("several processes", "same command on every host; ALP_* variables do the same")
    group.add_argument(
        "--cluster",
        choices=CLUSTERS,
        default=default.kind,
        help="who says which process this is: env (flags below, ALP_COORDINATOR, ALP_NUM_PROCESSES, ALP_PROCESS_ID; "
        "without any of them one process), slurm, tpu, gke, or none",
    )
    group.add_argument("--coordinator", default="", metavar="HOST:PORT", help="address on which process 0 listens")
    group.add_argument("--coordinator_bind", default="", metavar="HOST:PORT", help="what it binds to, when different")
    group.add_argument("--num_processes", type=int, default=default.num_processes, metavar="N")
    group.add_argument("--process_id", type=int, default=default.process_id, metavar="I", help="0 to N-1")
    group.add_argument(
        "--cluster_timeout",
        type=float,
        default=default.timeout_s,
        metavar="SECONDS",
        help="how long to wait for all processes to start (default %(default)g)",
    )


def cluster_config(args: argparse.Namespace) -> ClusterConfig:
    """The settings from the flags of ``add_cluster_arguments``."""
    return ClusterConfig(
        kind=args.cluster,
        coordinator=args.coordinator,
        bind=args.coordinator_bind,
        num_processes=args.num_processes,
        process_id=args.process_id,
        timeout_s=args.cluster_timeout,
    )
