"""``alp ckpt``: what checkpoints a run has, what is in them, and whether every byte is as it was written.

``list`` and ``verify`` read files only and do not load JAX; ``inspect`` reads metadata on the CPU.
"""

import argparse
import functools
import time

from alp_jax.cli.parsers import add_action

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
    from alp_jax.train.checkpoint_folder import inventory

    rows = inventory(args.run)
    if not args.json:
        print(f"{'step':>10} {'size':>12}  {'saved':<19}  whole  metrics")
        for row in rows:
            saved = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["saved"])) if row["whole"] else ""
            metrics = "  ".join(f"{name} {value:.6g}" for name, value in sorted(row["metrics"].items()))
            size, whole = f"{row['bytes'] / 1e6:.3f} MB", "yes" if row["whole"] else "no"
            print(f"{row['step']:>10} {size:>12}  {saved:<19}  {whole:<5}  {metrics or row['fault']}".rstrip())
    return {"run": args.run, "checkpoints": rows}


def _inspect(args: argparse.Namespace) -> dict:
    import jax

    jax.config.update("jax_platforms", "cpu")  # an accelerator may be busy with the run itself
    from alp_jax.train.checkpoint import stored_arrays

    step, arrays, clock = stored_arrays(args.run, args.step)
    if not args.json:
        for name, (shape, dtype) in arrays.items():
            print(f"{name}  {dtype}{shape}")
        for name, value in sorted(clock.items()):
            print(f"clock: {name} = {value}")
    listed = [{"name": name, "shape": shape, "dtype": dtype} for name, (shape, dtype) in arrays.items()]
    return {"run": args.run, "step": step, "arrays": listed, "clock": clock}


def _verify(args: argparse.Namespace) -> dict:
    from alp_jax.train.checkpoint_folder import verify_all

    steps = []
    for step, folder, files in verify_all(args.run, args.step):
        steps.append(step)
        if not args.json:
            print(f"{folder}: {len(files)} files, {sum(size for size, _ in files.values()) / 1e6:.3f} MB, all intact")
    return {"run": args.run, "verified": steps}
