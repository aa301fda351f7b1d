"""``alp quickstart``: the whole path from published audio to a report and an export."""

import argparse
import pathlib

EXAMPLE = "alp quickstart --out ."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default=".", metavar="DIR", help="where data/, runs/, report/ and export/ are made")
    parser.add_argument("--sweep", default="configs/sweeps/mini.py", metavar="FILE", help="the grid of runs")
    parser.add_argument("--tier", default="s", choices=("s", "m", "l"), help="size of the mini corpus")


def run(args: argparse.Namespace) -> dict:
    from alp_jax.core.pace import duration
    from alp_jax.launchers.quickstart import MADE, run_stages

    result = run_stages(pathlib.Path(args.out), args.sweep, args.tier)
    if not args.json:
        print(f"\nDone in {duration(result['total_seconds'])}, at most {result['peak_gib']:.1f} GiB in one process.")
        for name, path in MADE.items():
            print(f"  {name:<8} {pathlib.Path(result['out'], path)}")
    return result
