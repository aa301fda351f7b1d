"""``alp ckpt``: what checkpoints a run has, what is in them, and whether every byte is as it was written.

``list`` and ``verify`` read files only and do not load JAX; ``inspect`` reads metadata on the CPU.
"""

import argparse
import functools
import pathlib
import time

from alp_jax.cli.parsers import add_action
from alp_jax.core.errors import StorageError, UserError

EXAMPLE = "alp ckpt list runs/demo\n  alp ckpt verify runs/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = functools.partial(add_action, actions)
    for name, text in (
        ("list", "step, size, time and metrics of every checkpoint, and whether all its files are there"),
        ("inspect", "shape and dtype of every array of a checkpoint"),
        ("verify", "read every byte and compare SHA-256"),
    ):
        action = add(name, text, f"alp ckpt {name} runs/demo")
        action.add_argument("run", metavar="RUN", help="run folder")
        if name != "list":
            action.add_argument("--step", type=int, metavar="N", help="only this one (inspect: default the last)")


def run(args: argparse.Namespace) -> dict:
    """Lists, inspects or verifies, as ``args.action`` says.

    Raises:
      UserError: no such run or complete checkpoint.
      StorageError: ``verify`` or ``inspect`` met a damaged one; folder and file are named.
    """
    return {"list": _list, "inspect": _inspect, "verify": _verify}[args.action](args)


def _list(args: argparse.Namespace) -> dict:
    from alp_jax.train.checkpoint_folder import checkpoints_dir, verify

    rows = []
    for step in _steps(args.run):
        folder = checkpoints_dir(args.run) / str(step)
        size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        row = {"step": step, "bytes": size, "saved": None, "metrics": {}, "whole": False, "fault": ""}
        try:
            manifest = verify(folder, contents=False)
            row |= {"saved": manifest["saved"], "metrics": manifest["metrics"], "whole": True}
        except StorageError as error:
            row["fault"] = str(error)
        rows.append(row)
    if not args.json:
        print(f"{'step':>10} {'size':>12}  {'saved':<19}  whole  metrics")
        for row in rows:
            saved = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["saved"])) if row["whole"] else ""
            metrics = "  ".join(f"{name} {value:.6g}" for name, value in sorted(row["metrics"].items()))
            size = f"{row['bytes'] / 1e6:.3f} MB"
            print(
                f"{row['step']:>10} {size:>12}  {saved:<19}  {'yes' if row['whole'] else 'no ':<5}  "
                f"{metrics or row['fault']}".rstrip()
            )
    return {"run": args.run, "checkpoints": rows}


def _inspect(args: argparse.Namespace) -> dict:
    _steps(args.run)
    import jax

    jax.config.update("jax_platforms", "cpu")  # an accelerator may be busy with the run itself
    from alp_jax.train.checkpoint import stored_arrays
    from alp_jax.train.checkpoint_folder import checkpoints_dir, read_manifest, require

    step = require(args.run, args.step)
    folder = checkpoints_dir(args.run) / str(step)
    arrays, clock = stored_arrays(folder), read_manifest(folder)["clock"]
    if not args.json:
        for name, (shape, dtype) in arrays.items():
            print(f"{name}  {dtype}{shape}")
        for name, value in sorted(clock.items()):
            print(f"clock: {name} = {value}")
    listed = [{"name": name, "shape": shape, "dtype": dtype} for name, (shape, dtype) in arrays.items()]
    return {"run": args.run, "step": step, "arrays": listed, "clock": clock}


def _verify(args: argparse.Namespace) -> dict:
    from alp_jax.train.checkpoint_folder import checkpoints_dir, complete, require, verify

    _steps(args.run)
    last = require(args.run, args.step)
    steps = [last] if args.step is not None else complete(args.run)
    damaged = []
    for step in steps:
        folder = checkpoints_dir(args.run) / str(step)
        try:
            files = verify(folder)["files"]
        except (StorageError, OSError) as error:
            if not folder.exists():
                continue  # a run that goes on removed it meanwhile
            damaged.append(str(error))
            continue
        if not args.json:
            print(f"{folder}: {len(files)} files, {sum(size for size, _ in files.values()) / 1e6:.3f} MB, all intact")
    if damaged:
        more = f"; {len(damaged) - 1} more of {len(steps)} checkpoints are damaged" if damaged[1:] else ""
        raise StorageError(damaged[0] + more)
    return {"run": args.run, "verified": steps}


def _steps(run_dir: str) -> list[int]:
    from alp_jax.train.checkpoint_folder import numbered

    if not pathlib.Path(run_dir).is_dir():
        raise UserError(f"{run_dir} does not exist or is no folder: give the folder of a run")
    steps = numbered(run_dir)
    if not steps:
        raise UserError(f"{run_dir} has no checkpoints: give the folder of a run that saved one")
    return steps
