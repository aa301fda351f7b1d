"""``alp sweep``: a grid of runs, on this machine or handed to a scheduler."""

import argparse
import json
import pathlib

from alp_jax.cli.configuration import load_config
from alp_jax.core.errors import AlpError, UserError
from alp_jax.core.files import read_json, write_json
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
    here = parser.add_argument_group("on this machine")
    here.add_argument(
        "--parallel", type=int, metavar="N", help="runs at a time, on CPU, sharing its cores (default: 1)"
    )
    here.add_argument("--gpus", metavar="I,J,...", help="runs at a time on these GPUs, as CUDA_VISIBLE_DEVICES")
    here.add_argument("--gpus_per_run", type=int, default=1, metavar="N", help="(default: 1)")
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
      UserError: the sweep file or one of its runs cannot be used, or the budget will not do; nothing was started.
      AlpError: one or more runs failed (exit status 1); the others are done.
    """
    if args.action == "estimate":
        return _estimate(args)
    if not args.out:
        raise UserError("--out DIR is missing: the sweep folder")
    if args.action != "run":
        return {"status": _status, "table": _table}[args.action](args)
    if args.on != "here":
        from alp_jax.cli.sweep_submit import submit

        return submit(args, *_prepare(args))
    sweep, selected = _prepare(args)
    if not args.json:
        _print_plan(sweep, selected)
    if args.dry_run:
        sweep.check(selected, disk=False)
        return {"planned": [{"id": run.id, "status": sweep.record(run)["status"]} for run in selected]}
    counts = sweep.run(selected)
    if not args.json:
        print(f"{counts['done']} done, {counts['failed']} failed, {counts['skipped']} skipped as finished before")
        print(f"{duration(counts['seconds'])}; {counts['ledger_rows']} rows in {sweep.out / 'ledger.csv'}")
        for problem in counts["ledger_problems"]:
            print(f"  ledger: {problem}")
        for name, cause in counts["failures"].items():
            print(f"  failed: {name}: {cause}")
    if counts["failed"]:
        name, cause = next(iter(counts["failures"].items()))
        more = f" and {counts['failed'] - 1} more" if counts["failed"] > 1 else ""
        if args.json:  # main prints only the result of a success
            print(json.dumps(counts, sort_keys=True), flush=True)
        raise AlpError(
            f"{name} failed ({cause}){more}; see output.txt in {sweep.out}/runs; the same command tries again"
        )
    return counts


def _plan(args: argparse.Namespace) -> list:
    """The resolved runs of ``--sweep``."""
    from alp_jax.scaling.sweep.plan import load_sweep, plan_runs

    if not args.sweep:
        raise UserError("--sweep FILE is missing, such as --sweep=configs/sweeps/mini.py")
    return plan_runs(load_sweep(args.sweep), load_config, args.data)


def _prepare(args: argparse.Namespace) -> tuple:
    """The sweep, with estimates of its runs, and those that were asked for."""
    from alp_jax.cli.sweep_estimate import in_own_process
    from alp_jax.core.run_files import is_done
    from alp_jax.scaling.sweep.child import make_places
    from alp_jax.scaling.sweep.driver import Sweep
    from alp_jax.scaling.sweep.forecast import Budget
    from alp_jax.scaling.sweep.plan import sweep_name

    budget, rate = Budget(args.budget_device_hours, args.budget_gb), _rate(args)
    gpus = args.gpus.split(",") if args.gpus else []
    if gpus and args.parallel:
        raise UserError("--parallel shares CPU cores and --gpus shares GPUs: give one of them")
    places = make_places(1 if args.parallel is None else args.parallel, gpus, args.gpus_per_run)
    devices = args.gpus_per_run
    if args.on != "here":
        from alp_jax.cli.sweep_submit import places_and_devices

        places, devices = places_and_devices(args)
    runs = _plan(args)
    selected = [run for run in runs if args.only is None or args.only in run.id]
    if not selected:
        raise UserError(f"--only {args.only}: no run of {len(runs)} has that in its name, such as {runs[0].id}")
    if args.on == "here" and not args.dry_run:
        for path in dict.fromkeys(run.settings["data"]["path"] for run in selected):
            if "://" not in path and not pathlib.Path(path).is_dir():
                raise UserError(f"data set {path} does not exist: build it with 'alp data build', or name it by --data")
    left = [run for run in selected if not is_done(pathlib.Path(args.out) / "runs" / run.id)]
    estimates = in_own_process(args.sweep, args.data) if left else {}
    sweep = Sweep(
        sweep_name(args.sweep),
        runs,
        args.out,
        places=places,
        estimates=estimates,
        devices=devices,
        rate=rate,
        budget=budget,
    )
    return sweep, selected


def _rate(args: argparse.Namespace) -> float | None:
    """FLOP/s that a device is expected to do for these runs; None where no kind is named."""
    from alp_jax.core.accelerators import DEVICES
    from alp_jax.core.names import choose

    if not 0 < args.share <= 1:
        raise UserError(f"--share {args.share:g} must be above 0 and at most 1")
    if not args.device:
        return None
    dtypes = {run.settings["model"]["compute_dtype"] for run in _plan(args)}
    facts = DEVICES[choose(args.device, DEVICES, "--device")]
    return args.share * min(facts.flops(dtype) for dtype in dtypes)


def _estimate(args: argparse.Namespace) -> dict:
    from alp_jax.cli.sweep_estimate import estimate_all
    from alp_jax.scaling.sweep.forecast import GB

    found = estimate_all(_plan(args))
    if not args.json:
        for name, one in found.items():
            print(f"{name}  {one.flops:.3g} FLOP of training, {one.bytes / GB:.3g} GB of checkpoints")
    return {"estimates": {name: {"flops": one.flops, "bytes": one.bytes} for name, one in found.items()}}


def _status(args: argparse.Namespace) -> dict:
    """Prints what ``sweep.json``, the run folders and the logs of jobs say; starts nothing and changes nothing."""
    from alp_jax.scaling.sweep.scheduler import note, observe
    from alp_jax.scaling.sweep.status_table import table_lines

    out = pathlib.Path(args.out)
    records = read_json(out / "sweep.json", "sweep state")["runs"]
    observe(out, records)
    notes = {record["id"]: note(out, record["id"]) for record in records if record["status"] == "running"}
    if not args.json:
        print("\n".join(table_lines(records, notes, 200)))
    return {"runs": [{**record, "note": notes.get(record["id"], "")} for record in records]}


def _table(args: argparse.Namespace) -> dict:
    """Collects what is finished, whoever ran it, and writes ``ledger.csv`` and ``ledger.parquet``."""
    from alp_jax.scaling.sweep.child import Lock
    from alp_jax.scaling.sweep.ledger import collect
    from alp_jax.scaling.sweep.scheduler import observe

    out = pathlib.Path(args.out)
    read_json(out / "sweep.json", "sweep state")
    with Lock(out / ".lock", 0.0, f"--out {out}: a driver is running this sweep and collects it: try again later"):
        state = read_json(out / "sweep.json", "sweep state")  # as the last driver left it
        observe(out, state["runs"])
        done = [record["id"] for record in state["runs"] if record["status"] == "done"]
        ledger = collect(out / "ledger.jsonl", [out / "runs" / name for name in done])
        ledger.write_parquet(out / "ledger.parquet")
        write_json(out / "sweep.json", state)
    failed = {record["id"]: record["cause"] for record in state["runs"] if record["status"] == "failed"}
    if not args.json:
        print(f"{len(done)} of {len(state['runs'])} runs, {len(ledger.table())} rows in {out / 'ledger.csv'}, .parquet")
        for problem in ledger.problems:
            print(f"  ledger: {problem}")
        for name, cause in failed.items():
            print(f"  failed: {name}: {cause}")
    return {"runs": len(done), "rows": len(ledger.table()), "problems": ledger.problems, "failures": failed}


def _print_plan(sweep, selected) -> None:
    from alp_jax.scaling.sweep.status_table import describe

    width = max(len(run.id) for run in selected)
    varied = _varied([run.overrides for run in sweep.runs])
    print(f"{'run':<{width}}  {'steps':>8}  status   what it is")
    for run in selected:
        steps, status = run.settings["train"]["steps"], sweep.record(run)["status"]
        said = "  ".join(
            f"{key.removeprefix('config.')}={run.overrides[key]}" for key in varied if key in run.overrides
        )
        print(f"{run.id:<{width}}  {steps:>8}  {status:<8} {said}")
    print(f"{len(selected)} runs; {describe(sweep.outlook(selected))}", flush=True)


def _varied(runs: list[dict]) -> list[str]:
    """The overrides that are not the same in all runs, but for lengths and costs."""
    keys = dict.fromkeys(key for run in runs for key in run if key not in ("config.train.steps", "seconds"))
    return [key for key in keys if len({repr(run.get(key)) for run in runs}) > 1]
