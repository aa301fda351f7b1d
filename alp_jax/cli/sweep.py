"""``alp sweep``: starts a grid of runs on this machine, or hands it to a scheduler."""

import argparse
import json

from alp_jax.cli.parsers import fields_of
from alp_jax.core.errors import AlpError, UserError
from alp_jax.core.pace import duration

EXAMPLE = (
    "alp sweep --sweep=configs/sweeps/mini.py --data data/mini --out runs/mini\n"
    "  alp sweep --sweep=configs/sweeps/hybrid.py:size=mini --data data/mini --out runs/hybrid --gpus 0,1,2,3\n"
    "  alp sweep --sweep=configs/sweeps/paper.py --out runs/paper --on slurm --device h100 --dry_run\n"
    "  alp sweep status --out runs/mini"
)
ACTIONS = {
    "run": "start what is not finished (default)",
    "estimate": "operations and bytes of every run, and no more",
    "status": "what every run is doing",
    "table": "collect finished runs into the ledger, and write it as CSV and Parquet",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = "; ".join(f"{name}: {text}" for name, text in ACTIONS.items())
    parser.add_argument("action", nargs="?", default="run", choices=ACTIONS, help=actions)
    parser.add_argument("--sweep", metavar="FILE[:ARGS]", help="Python file with get_sweep(), as in configs/sweeps")
    parser.add_argument("--out", metavar="DIR", help="sweep folder; finished runs in it are kept")
    parser.add_argument("--data", metavar="DIR", help="data set folder, in place of the configuration's")
    parser.add_argument("--only", metavar="TEXT", help="run only what has TEXT in its name")
    parser.add_argument("--dry_run", action="store_true", help="print the plan, or what would be submitted, and stop")
    local = parser.add_argument_group("on this machine")
    local.add_argument(
        "--parallel", type=int, metavar="N", help="runs at a time, on CPU, sharing its cores (default: 1)"
    )
    local.add_argument("--gpus", metavar="I,J,...", help="runs at a time on these GPUs, as CUDA_VISIBLE_DEVICES")
    local.add_argument("--gpus_per_run", type=int, default=1, metavar="N", help="(default: 1)")
    limits = parser.add_argument_group("what it may take", "predicted before anything starts, and refused above")
    limits.add_argument("--budget_device_hours", type=float, metavar="H", help="in all, earlier attempts included")
    limits.add_argument("--budget_gb", type=float, metavar="GB", help="of checkpoints, in all")
    limits.add_argument("--device", metavar="KIND", help="h100, v5e, ...: predict seconds from its published peak")
    limits.add_argument(
        "--share",
        type=float,
        default=0.3,
        metavar="R",
        help="of that peak which runs will reach (default: 0.3, a guess)",
    )
    jobs = parser.add_argument_group("under a scheduler", "one job per run; the same command submits what is missing")
    jobs.add_argument("--on", choices=("here", "slurm", "gke"), default="here", help="(default: here)")
    jobs.add_argument("--name", default="sweep", help="of the jobs (default: sweep)")
    for flag, default in (("nodes", 1), ("gpus_per_node", 8), ("at_once", 0)):
        text = "runs at a time (0: no limit)" if flag == "at_once" else "of a SLURM job"
        jobs.add_argument(f"--{flag}", type=int, default=default, metavar="N", help=f"{text} (default: {default})")
    jobs.add_argument("--time", default="24:00:00", metavar="D-H:M:S", help="limit of a SLURM job (1 day)")
    for flag, text in (
        ("partition", "SLURM"),
        ("account", "SLURM"),
        ("topology", "GKE: v5e:8x8, h100:64, ... of a run"),
        ("image", "GKE: container with alp in its path"),
        ("claim", "GKE: volume claim, mounted at /runs"),
        ("queue", "GKE: Kueue's local queue, in which the JobSets wait"),
    ):
        jobs.add_argument(f"--{flag}", default="", metavar="NAME", help=text)


def run(args: argparse.Namespace) -> dict:
    """Does the action and returns its result.

    Raises:
      UserError: the sweep file or one of its runs cannot be used, or the budget is too small; nothing was started.
      AlpError: one or more runs failed (exit status 1); the others are done.
    """
    if args.action == "estimate":
        return _estimate(args)
    if not args.out:
        raise UserError("--out DIR is missing: the sweep folder")
    from alp_jax.scaling.sweep.folder import local_sweep

    with local_sweep(args.out, write=args.action != "status" and not args.dry_run) as args.out:
        return {"run": _run, "status": _status, "table": _table}[args.action](args)


def _run(args: argparse.Namespace) -> dict:
    jobs, sweep, selected = _open(args)
    if jobs is not None:
        from alp_jax.scaling.sweep.submit import submit

        asked = {"name": args.name, "sweep": args.sweep, "data": args.data, "only": args.only}
        result, text = submit(sweep, selected, jobs, asked, dry_run=args.dry_run)
        _show(args, text)
        return result
    from alp_jax.scaling.sweep.status_table import plan_text

    _show(args, plan_text(sweep.runs, selected, sweep.record, sweep.outlook(selected), sweep.missing))
    if args.dry_run:
        sweep.check(selected, disk=False)
        planned = [{"id": run.id, "status": sweep.record(run)["status"]} for run in selected]
        return {"planned": planned, "missing": sweep.missing}
    counts = sweep.run(selected)
    lines = [f"{counts['done']} done, {counts['failed']} failed, {counts['skipped']} skipped as finished before"]
    lines += [f"{duration(counts['seconds'])}; {counts['ledger_rows']} rows in {sweep.out / 'ledger.csv'}"]
    _show(args, "\n".join(lines + _remarks(counts["ledger_problems"], counts["failures"])))
    if counts["failed"]:
        name, cause = next(iter(counts["failures"].items()))
        more = f" and {counts['failed'] - 1} more" if counts["failed"] > 1 else ""
        if args.json:  # main prints only the result of a success
            print(json.dumps(counts, sort_keys=True), flush=True)
        raise AlpError(
            f"{name} failed ({cause}){more}; see output.txt in {sweep.out}/runs; the same command tries again"
        )
    return counts


def _open(args: argparse.Namespace) -> tuple:
    """The jobs that runs become (None on this machine), the sweep, and the requested runs of it."""
    from alp_jax.scaling.sweep.child import Slot, make_slots
    from alp_jax.scaling.sweep.forecast import Budget
    from alp_jax.scaling.sweep.prepare import expected_rate, open_sweep

    budget, runs = Budget(args.budget_device_hours, args.budget_gb), _plan(args)
    if not 0 < args.share <= 1:
        raise UserError(f"--share {args.share:g} must be above 0 and at most 1")
    rate = expected_rate(runs, args.device, args.share) if args.device else None
    gpus = args.gpus.split(",") if args.gpus else []
    if gpus and args.parallel:
        raise UserError("--parallel shares CPU cores and --gpus shares GPUs: give one of them")
    slots = make_slots(1 if args.parallel is None else args.parallel, gpus, args.gpus_per_run)
    devices, jobs = args.gpus_per_run, _jobs(args)
    if jobs is not None:  # as many at a time as allowed, else all at once
        slots, devices = [Slot()] * (jobs.at_once or 1000), jobs.devices
    asked = {"data": args.data, "only": args.only, "needs_inputs": not args.dry_run and (jobs is None or jobs.local)}
    return jobs, *open_sweep(
        args.sweep, runs, args.out, slots=slots, devices=devices, rate=rate, budget=budget, **asked
    )


def _jobs(args: argparse.Namespace):
    if args.on == "here":
        return None
    from alp_jax.launchers.gke import Workload
    from alp_jax.launchers.jobs import gke_jobs, slurm_jobs
    from alp_jax.launchers.slurm import Job

    if args.on == "slurm":
        return slurm_jobs(Job(**fields_of(Job, args)))
    for flag in ("topology", "image"):
        if not vars(args)[flag]:
            raise UserError(f"--on gke needs --{flag}")
    kind, _, size = args.topology.partition(":")
    return gke_jobs(Workload(args.name, args.image, kind, size, claim=args.claim), args.at_once, args.queue)


def _plan(args: argparse.Namespace) -> list:
    """The resolved runs of ``--sweep``."""
    from alp_jax.scaling.sweep.plan import load_sweep, plan_runs

    if not args.sweep:
        raise UserError("--sweep FILE is missing, such as --sweep=configs/sweeps/mini.py")
    return plan_runs(load_sweep(args.sweep), args.data)


def _estimate(args: argparse.Namespace) -> dict:
    from alp_jax.planning.run_costs import run_costs

    costs = run_costs({run.id: run.settings for run in _plan(args)})
    for name, one in costs.items():
        _show(args, f"{name}  {one['flops']:.3g} FLOP of training, {one['bytes'] / 1e9:.3g} GB of checkpoints")
    return {"estimates": costs}


def _status(args: argparse.Namespace) -> dict:
    """Prints what ``sweep.json``, the run folders and the logs of jobs say; starts nothing and changes nothing."""
    from alp_jax.scaling.sweep.scheduler import status
    from alp_jax.scaling.sweep.status_table import table_lines

    records = status(args.out)
    _show(args, "\n".join(table_lines(records, {record["id"]: record["note"] for record in records}, 200)))
    return {"runs": records}


def _table(args: argparse.Namespace) -> dict:
    """Collects finished runs, whoever started them, and writes ``ledger.csv`` and ``ledger.parquet``."""
    from alp_jax.scaling.sweep.scheduler import collect_finished

    records, ledger = collect_finished(out := args.out)
    done, rows = sum(record["status"] == "done" for record in records), len(ledger.table())
    failed = {record["id"]: record["cause"] for record in records if record["status"] == "failed"}
    lines = [f"{done} of {len(records)} runs, {rows} rows in {out / 'ledger.csv'}, .parquet"]
    _show(args, "\n".join(lines + _remarks(ledger.problems, failed)))
    return {"runs": done, "rows": rows, "problems": ledger.problems, "failures": failed}


def _remarks(problems: list[str], failures: dict[str, str]) -> list[str]:
    return [f"  ledger: {one}" for one in problems] + [f"  failed: {name}: {cause}" for name, cause in failures.items()]


def _show(args: argparse.Namespace, text: str) -> None:
    if not args.json:
        print(text, flush=True)
