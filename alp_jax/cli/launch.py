"""``alp launch``: starts a run here in several processes, under SLURM, on GKE or on TPU VMs."""

import argparse
import functools

from alp_jax.cli.parsers import add_action, fields_of

EXAMPLE = (
    "alp launch slurm --name c10m --nodes 2 -- train --workdir runs/c10m --config=configs/pretrain.py:pairs=10m\n"
    "  alp launch local --processes 2 -- train --workdir runs/two --config=configs/pretrain.py\n"
    "  alp launch slurm --nodes 8 -- data build captionstew --root downloads --out data/captionstew"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="KIND")
    action = functools.partial(add_action, actions)
    train = "-- train --workdir runs/c10m --config=configs/pretrain.py:pairs=10m"
    local = action("local", "processes on this machine, one run", f"alp launch local --processes 8 --gpus 8 {train}")
    local.add_argument("--processes", type=int, default=2, metavar="N", help="(default: 2)")
    local.add_argument("--gpus", type=int, default=0, metavar="N", help="of this machine, in equal parts")
    local.add_argument("--cpu_devices", type=int, default=0, metavar="N", help="fake CPU devices of each process")
    slurm = action(
        "slurm", "a batch job that is queued again when it is stopped", f"alp launch slurm --nodes 4 {train}"
    )
    slurm.add_argument("--name", default="alp", help="of the job (default: alp)")
    for flag, default in (("nodes", 1), ("gpus_per_node", 8), ("tasks_per_node", 1), ("cpus_per_task", 16)):
        slurm.add_argument(f"--{flag}", type=int, default=default, metavar="N", help=f"(default: {default})")
    slurm.add_argument("--time", default="24:00:00", metavar="D-H:M:S", help="limit; the run resumes after it (1 day)")
    slurm.add_argument("--partition", default="", metavar="NAME")
    slurm.add_argument("--account", default="", metavar="NAME")
    gke = action(
        "gke",
        "a JobSet on Google Kubernetes Engine, through xpk or kubectl",
        "alp launch gke --name c10m --topology v5e:8x8 --image REGISTRY/alp:1 --claim runs "
        "-- train --workdir /runs/c10m --config=configs/pretrain.py:pairs=10m",
    )
    gke.add_argument("--name", default="alp", help="of the workload (default: alp)")
    gke.add_argument("--topology", required=True, metavar="KIND:SIZE", help="v5e:8x8, v5p:4x4x4, h100:64, ...")
    gke.add_argument("--slices", type=int, default=1, metavar="N", help="TPU slices of that size; needs xpk")
    gke.add_argument("--image", required=True, help="container with alp in its path")
    gke.add_argument("--claim", default="", metavar="NAME", help="volume claim, mounted at /runs")
    gke.add_argument("--namespace", default="default")
    gke.add_argument("--restarts", type=int, default=100, metavar="N", help="after preemptions (default: 100)")
    for flag in ("cluster", "project", "zone"):
        gke.add_argument(f"--{flag}", default="", metavar="NAME", help="for xpk")
    tpu = action(
        "tpu",
        "TPU VMs from a queued resource, made again when they are preempted",
        "alp launch tpu --name c10m --project my-project --zone us-central2-b --accelerator v5litepod-64 "
        f"--runtime v2-alpha-tpuv5-lite --repository https://host/alp_jax --spot {train}",
    )
    tpu.add_argument("--name", default="alp", help="of the resource (default: alp)")
    for flag in ("project", "zone", "accelerator", "runtime", "repository"):
        tpu.add_argument(f"--{flag}", required=True, metavar="NAME")
    tpu.add_argument("--revision", default="main", metavar="NAME", help="branch, tag or commit (default: main)")
    tpu.add_argument("--spot", action="store_true", help="cheaper machines that may be preempted")
    tpu.add_argument("--retries", type=int, default=20, metavar="N", help="after preemptions (default: 20)")
    for one in (local, slurm, gke, tpu):
        one.add_argument("--dry_run", action="store_true", help="show what would be submitted and submit nothing")
        one.add_argument("command", nargs=argparse.REMAINDER, metavar="-- VERB ...", help="arguments of alp")


def run(args: argparse.Namespace) -> dict:
    """Starts or submits the command.

    Raises:
      UserError: an invalid name, number or command, or a scheduler's program that is not installed.
      AlpError: the scheduler refused, or what was started here failed, with its exit code.
    """
    from alp_jax.launchers.names import LAUNCHED, check_command

    command = check_command(args.command, (*LAUNCHED, "data") if args.action == "slurm" else LAUNCHED)
    result, text = {"local": _local, "slurm": _slurm, "gke": _gke, "tpu": _tpu}[args.action](args, command)
    if text and not args.json:
        print(text)
    return result


def _local(args: argparse.Namespace, command: list[str]) -> tuple[dict, str]:
    from alp_jax.launchers.local import launch

    numbers = {"processes": args.processes, "gpus": args.gpus, "cpu_devices": args.cpu_devices}
    return launch(command, **numbers, dry_run=args.dry_run)


def _slurm(args: argparse.Namespace, command: list[str]) -> tuple[dict, str]:
    from alp_jax.launchers import builds, slurm

    launch = builds.launch_build if command[0] == "data" else slurm.launch
    return launch(slurm.Job(**fields_of(slurm.Job, args)).checked(), command, dry_run=args.dry_run)


def _gke(args: argparse.Namespace, command: list[str]) -> tuple[dict, str]:
    from alp_jax.launchers.gke import Workload, launch

    kind, _, size = args.topology.partition(":")
    work = Workload(kind=kind, size=size, **fields_of(Workload, args)).checked()
    return launch(work, command, cluster=args.cluster, project=args.project, zone=args.zone, dry_run=args.dry_run)


def _tpu(args: argparse.Namespace, command: list[str]) -> tuple[dict, str]:
    from alp_jax.launchers.tpu import TpuVm, launch

    return launch(TpuVm(**fields_of(TpuVm, args)).checked(), command, retries=args.retries, dry_run=args.dry_run)
