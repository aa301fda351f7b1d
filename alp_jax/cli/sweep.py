"""``alp sweep``: a grid of runs, one after another or a few at a time."""

import argparse
import json
import pathlib

from alp_jax.cli.configuration import load_config
from alp_jax.core.errors import AlpError, UserError
from alp_jax.core.progress import clock

EXAMPLE = "alp sweep --sweep=configs/sweeps/mini.py --data data/mini --out runs/mini"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sweep", required=True, metavar="FILE[:ARGS]", help="Python file with get_sweep(), as in configs/sweeps"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="sweep folder; finished runs in it are kept")
    parser.add_argument("--data", metavar="DIR", help="data set folder, in place of the configuration's")
    parser.add_argument("--only", metavar="TEXT", help="run only what has TEXT in its name")
    parser.add_argument(
        "--parallel", type=int, default=1, metavar="N", help="runs at a time, on CPU, sharing its cores (default: 1)"
    )
    parser.add_argument("--dry_run", action="store_true", help="print the plan and stop")


def run(args: argparse.Namespace) -> dict:
    """Prints the plan, runs it and returns the counts.

    Raises:
      UserError: the sweep file or one of its runs cannot be used; nothing has been started.
      AlpError: one or more runs failed (exit status 1); the others are done.
    """
    from alp_jax.scaling.plan import load_sweep, plan_runs, sweep_name
    from alp_jax.scaling.sweep import Sweep

    runs = plan_runs(load_sweep(args.sweep), load_config, args.data)
    selected = [run for run in runs if args.only is None or args.only in run.id]
    if not selected:
        raise UserError(f"--only {args.only}: no run of {len(runs)} has that in its name, such as {runs[0].id}")
    if args.data and not pathlib.Path(args.data).is_dir():
        raise UserError(f"--data {args.data} does not exist: build it with 'alp data build'")
    sweep = Sweep(sweep_name(args.sweep), runs, args.out, parallel=args.parallel)
    if not args.json:
        _print_plan(sweep, selected)
    if args.dry_run:
        return {"planned": [{"id": run.id, "status": sweep.record(run)["status"]} for run in selected]}
    counts = sweep.run(selected)
    if not args.json:
        print(f"{counts['done']} done, {counts['failed']} failed, {counts['skipped']} skipped as finished before")
        print(f"{clock(counts['seconds'])}; {counts['ledger_rows']} rows in {sweep.out / 'ledger.csv'}")
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


def _print_plan(sweep, selected) -> None:
    width = max(len(run.id) for run in selected)
    print(f"{'run':<{width}}  {'objective':<12} {'pairs':>9} {'steps':>8} {'seed':>4}  status")
    for run in selected:
        settings, status = run.settings, sweep.record(run)["status"]
        pairs = (settings["data"]["pairs"] or "all") if run.kind == "trained" else "none"
        seed, steps = settings["seed"], settings["train"]["steps"]
        print(f"{run.id:<{width}}  {settings['objective']['name']:<12} {pairs:>9} {steps:>8} {seed:>4}  {status}")
    left = [run for run in selected if not sweep.finished(run)]
    print(f"{len(selected)} runs, about {clock(sweep.seconds_left(left))} to go", flush=True)
