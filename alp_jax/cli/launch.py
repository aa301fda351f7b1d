"""``alp launch``: starts a run here in several processes, under SLURM, on GKE or on TPU VMs."""

import argparse
import dataclasses
import functools
import pathlib
import shutil

from alp_jax.cli.parsers import add_action
from alp_jax.core.errors import AlpError, UserError

EXAMPLE = (
    "alp launch slurm --name c10m --nodes 2 -- train --workdir runs/c10m --config=configs/pretrain.py:pairs=10m\n"
    "  alp launch local --processes 2 -- train --workdir runs/two --config=configs/pretrain.py"
)


class LaunchedError(AlpError):
    """What was launched ended with an exit code of its own."""

    def __init__(self, code: int, what: str):
        super().__init__(f"{what} ended with exit code {code}")
        self.exit_code = code


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
    slurm.add_argument("--time", default="24:00:00", metavar="D-H:M:S", help="limit; the run goes on after it (1 day)")
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
      UserError: a name, number or command that cannot be, or a scheduler's program that is not installed.
      AlpError: the scheduler refused, or what was started here failed, with its exit code.
    """
    from alp_jax.launchers.names import check_command

    command = check_command(args.command)
    return {"local": _local, "slurm": _slurm, "gke": _gke, "tpu": _tpu}[args.action](args, command)


def _local(args: argparse.Namespace, command: list[str]) -> dict:
    from alp_jax.launchers import local
    from alp_jax.launchers.names import check_count, option
    from alp_jax.launchers.record import new_folder, write_record

    check_count("processes", args.processes, 256)
    if args.gpus < 0 or args.cpu_devices < 0:
        raise UserError(f"--gpus {args.gpus} and --cpu_devices {args.cpu_devices} cannot be negative")
    port = local.free_port()
    environs = local.environments(args.processes, cpu_devices=args.cpu_devices, gpus=args.gpus, port=port)
    if args.dry_run:
        for i, environ in enumerate(environs):
            _show(args, f"[{i}] " + " ".join(f"{name}={value}" for name, value in environ.items()) + f" alp {command}")
        return {"kind": "local", "command": command, "environments": environs}
    if option(command, "--workdir") is not None:
        settings = {name: vars(args)[name] for name in ("processes", "gpus", "cpu_devices")}
        write_record(new_folder(command), "local", [command], {**settings, "environments": environs}, {})
    code = local.run(command, environs)
    if code:
        raise LaunchedError(code, f"a process of {args.processes}")
    return {"kind": "local", "command": command, "exit_code": 0}


def _slurm(args: argparse.Namespace, command: list[str]) -> dict:
    from alp_jax.launchers import slurm
    from alp_jax.launchers.call import must, need
    from alp_jax.launchers.record import new_folder, write_record

    job = slurm.Job(
        **{field.name: vars(args)[field.name] for field in dataclasses.fields(slurm.Job) if field.name in args}
    )
    if args.dry_run:
        script = slurm.render(job, [command], "slurm-%j.txt")
        _show(args, script)
        return {"kind": "slurm", "script": script}
    sbatch = need("sbatch", "run this where jobs are submitted")
    folder = new_folder(command)
    script = slurm.render(job, [command], f"{folder}/slurm-%j.txt")
    write_record(folder, "slurm", [command], dataclasses.asdict(job), {"job.sbatch": script})
    said = must([sbatch, str(folder / "job.sbatch")], folder)
    return _submitted(args, folder, said)


def _gke(args: argparse.Namespace, command: list[str]) -> dict:
    from alp_jax.launchers import gke
    from alp_jax.launchers.call import must, need
    from alp_jax.launchers.record import new_folder, write_record

    kind, _, size = args.topology.partition(":")
    names = ("name", "image", "slices", "namespace", "claim", "restarts")
    work = gke.Workload(kind=kind, size=size, **{name: vars(args)[name] for name in names}).checked()
    gke.run_folder(command, work.claim)
    xpk = shutil.which("xpk") if args.cluster else None
    if xpk or work.slices > 1:
        xpk = xpk or ("xpk" if args.dry_run else need("xpk", "pip install xpk, and name --cluster"))
        argv = gke.xpk_argv(xpk, work, command, cluster=args.cluster, project=args.project, zone=args.zone)
        rendered = {}
    else:
        rendered = {"jobset.yaml": gke.render(work, command)}
        argv = ["kubectl", "apply", "-f"]
    if args.dry_run:
        _show(args, rendered.get("jobset.yaml") or "\n".join(argv))
        return {"kind": "gke", "argv": argv, **rendered}
    kubectl = "" if xpk else need("kubectl", "install it, or xpk")
    folder = new_folder(command)
    write_record(folder, "gke", [command], dataclasses.asdict(work), rendered)
    said = must(argv if xpk else [kubectl, "apply", "-f", str(folder / "jobset.yaml")], folder, timeout_s=1800.0)
    return _submitted(args, folder, said)


def _tpu(args: argparse.Namespace, command: list[str]) -> dict:
    from alp_jax.launchers import tpu
    from alp_jax.launchers.call import need
    from alp_jax.launchers.record import new_folder, write_record

    names = [field.name for field in dataclasses.fields(tpu.TpuVm)]
    vm = tpu.TpuVm(**{name: vars(args)[name] for name in names}).checked()
    if args.retries < 0:
        raise UserError(f"--retries {args.retries} cannot be negative")
    if args.dry_run:
        calls = [tpu.create_argv("gcloud", vm), tpu.run_argv("gcloud", vm, command), tpu.delete_argv("gcloud", vm)]
        _show(args, "\n".join(map(str, calls)))
        return {"kind": "tpu", "argv": calls}
    gcloud = need("gcloud", "install the Google Cloud SDK")
    folder = new_folder(command)
    write_record(folder, "tpu", [command], dataclasses.asdict(vm), {})
    code = tpu.run(gcloud, vm, command, folder, retries=args.retries)
    if code:
        raise LaunchedError(code, f"the run on {vm.name}")
    return _submitted(args, folder, f"{vm.name} is done")


def _submitted(args: argparse.Namespace, folder: pathlib.Path, said: str) -> dict:
    _show(args, f"{said}\nrecorded in {folder}")
    return {"kind": args.action, "record": str(folder), "output": said}


def _show(args: argparse.Namespace, text: str) -> None:
    if not args.json:
        print(text)
