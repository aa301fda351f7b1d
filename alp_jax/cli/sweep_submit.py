"""A sweep as jobs of a scheduler: a SLURM array, or one JobSet per run, so that a run that fails harms no other."""

import argparse
import dataclasses
import math

from alp_jax.core.errors import UserError

QUEUE = "kueue.x-k8s.io/queue-name"


def places_and_devices(args: argparse.Namespace) -> tuple[list, int]:
    """Runs at a time and devices of each, for the forecast: as many as allowed, else all runs at once.

    Raises:
      UserError: numbers or a topology that cannot be.
    """
    from alp_jax.scaling.sweep.child import Place

    if args.at_once < 0:
        raise UserError(f"--at_once {args.at_once} cannot be negative")
    if args.on == "slurm":
        devices = _job(args).nodes * max(args.gpus_per_node, 1)
    else:
        devices = math.prod(int(side) for side in _workload(args).size.split("x"))
    return [Place()] * (args.at_once or 1000), devices


def submit(args: argparse.Namespace, sweep, selected: list) -> dict:
    """Renders the jobs of what is not finished, checks the budget, and submits them unless ``--dry_run`` is given.

    Raises:
      UserError: nothing is left to do, a flag that cannot be, or no scheduler here.
      AlpError: the scheduler refused.
    """
    from alp_jax.launchers.call import must, need
    from alp_jax.launchers.record import new_folder, write_record
    from alp_jax.scaling.sweep.driver import train_command
    from alp_jax.scaling.sweep.status_table import describe

    todo = [run for run in selected if not sweep.finished(run)]
    if not todo:
        raise UserError(f"--out {args.out}: all {len(selected)} runs are finished; nothing to submit")
    sweep.check(selected, disk=args.on == "slurm" and not args.dry_run)
    commands = [train_command(run, sweep.folder(run))[3:] for run in todo]
    show = (lambda text: None) if args.json else print
    if args.dry_run:
        text = _render(args, commands, f"{sweep.out}/launch/N")
        show(text)
        show(f"# {len(todo)} runs; {describe(sweep.outlook(selected))}")
        return {"kind": args.on, "runs": [run.id for run in todo], "rendered": text}
    program = need(
        *{"slurm": ("sbatch", "run this where jobs are submitted"), "gke": ("kubectl", "install it")}[args.on]
    )
    sweep.hand_over(todo)
    folder = new_folder(["sweep", "--workdir", str(sweep.out)])
    file = folder / {"slurm": "job.sbatch", "gke": "jobsets.yaml"}[args.on]
    settings = {name: vars(args)[name] for name in ("name", "sweep", "data", "only")}
    settings["runs"] = [run.id for run in todo]
    write_record(folder, args.on, commands, settings, {file.name: _render(args, commands, str(folder))})
    argv = [program, str(file)] if args.on == "slurm" else [program, "apply", "-f", str(file)]
    said = must(argv, folder)
    show(f"{said}\n{len(todo)} runs; {describe(sweep.outlook(selected))}\nrecorded in {folder}")
    show(f"when they have ended: alp sweep table --out {sweep.out}")
    return {"kind": args.on, "runs": settings["runs"], "record": str(folder), "output": said}


def _render(args: argparse.Namespace, commands: list[list[str]], folder: str) -> str:
    if args.on == "slurm":
        from alp_jax.launchers import slurm

        # outside of an array %a is no number of a task
        return slurm.render(_job(args), commands, f"{folder}/slurm-{'%A_%a' if len(commands) > 1 else '%j'}.txt")
    import yaml

    from alp_jax.launchers import gke

    work, documents = _workload(args), []
    for number, command in enumerate(commands):
        gke.run_folder(command, work.claim)
        one = gke.job_set(dataclasses.replace(work, name=f"{work.name}-{number}").checked(), command)
        if args.queue:
            one["metadata"]["labels"] = {QUEUE: args.queue}
            one["spec"]["suspend"] = True  # until the queue admits it
        documents.append(one)
    return yaml.safe_dump_all(documents, sort_keys=False, default_flow_style=False, width=1000)


def _job(args: argparse.Namespace):
    from alp_jax.launchers import slurm

    names = ("name", "nodes", "gpus_per_node", "time", "partition", "account", "at_once")
    return slurm.Job(**{name: vars(args)[name] for name in names}).checked()


def _workload(args: argparse.Namespace):
    from alp_jax.launchers import gke
    from alp_jax.launchers.names import check

    for flag in ("topology", "image"):
        if not vars(args)[flag]:
            raise UserError(f"--on gke needs --{flag}")
    if args.queue:
        check("name", args.queue)
    kind, _, size = args.topology.partition(":")
    return gke.Workload(name=args.name, image=args.image, kind=kind, size=size, claim=args.claim).checked()
