"""``alp quickstart``: the whole path as a list of commands, each printed, run and skipped when its work is done."""

import argparse
import importlib.util
import pathlib
import resource
import subprocess
import sys
import time

from alp_jax.core.cores import usable_cores
from alp_jax.core.errors import ChildFailed, UserError
from alp_jax.core.pace import duration

EXAMPLE = "alp quickstart --out ."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default=".", metavar="DIR", help="where data/, runs/, report/ and export/ are made")
    parser.add_argument("--sweep", default="configs/sweeps/mini.py", metavar="FILE", help="the grid of runs")
    parser.add_argument("--tier", default="s", choices=("s", "m", "l"), help="size of the mini corpus")


def stages(args: argparse.Namespace) -> list[tuple[str, list[str], float]]:
    """(title, command, typical minutes on two cores) of every stage."""
    out = pathlib.Path(args.out)
    data, sweep, report = str(out / "data" / "mini"), str(out / "runs" / "mini"), str(out / "report")
    stats, captions = str(out / "data" / "stats.json"), str(out / "data" / "captions.json")
    ledger = str(pathlib.Path(sweep) / "ledger.jsonl")
    at_once = str(min(2, len(usable_cores())))  # two runs with a core each do half as much again as one with two
    return [
        ("fetch real audio", ["data", "fetch", "mini", "--tier", args.tier], 0.7),
        ("build shards", ["data", "build", "mini", "--tier", args.tier, "--codec", "pcm", "--out", data], 0.6),
        ("train the vocabulary", ["tokenizer", "--data", data, "--vocab_size", "2048"], 0.1),
        ("count the clips", ["data", "stats", data, "--out", stats], 0.1),
        ("describe the captions", ["data", "captions", data, "--out", captions], 0.1),
        (
            "train and evaluate the grid",
            ["sweep", "--sweep", args.sweep, "--data", data, "--out", sweep, "--parallel", at_once],
            12.0,
        ),
        ("fit scaling curves", ["scaling", "fit", "--ledger", ledger, "--out", report], 0.3),
        (
            "write the report",
            ["scaling", "report", "--sweep", sweep, "--stats", stats, "--captions", captions, "--out", report],
            0.1,
        ),
        ("export the best encoder", ["export", "best", "--sweep", sweep, "--out", str(out / "export")], 0.4),
    ]


def run(args: argparse.Namespace) -> dict:
    for package, extra in (("matplotlib", "report"), ("torch", "torch")):  # needed at the end, after the runs
        if importlib.util.find_spec(package) is None:
            raise UserError(f"the quickstart needs {package}: pip install 'alp_jax[{extra}]'")
    began, seconds = time.monotonic(), {}
    todo = stages(args)
    for number, (title, command, _) in enumerate(todo):
        left = duration(60 * sum(minutes for *_, minutes in todo[number:]))
        print(f"\n[{number + 1}/{len(todo)}] {title} (about {left} to go)\n$ alp {' '.join(command)}", flush=True)
        start = time.monotonic()
        status = subprocess.run([sys.executable, "-m", "alp_jax", *command], check=False).returncode
        seconds[title] = round(time.monotonic() - start, 1)
        if status:
            raise ChildFailed(f"stage '{title}' ended with status {status}; run the same command to go on", status)
    out = pathlib.Path(args.out).resolve()
    peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    total = time.monotonic() - began
    if not args.json:
        print(f"\nDone in {duration(total)}, at most {peak_gb:.1f} GiB in one process.")
        places = {"report": "report/index.html", "shards": "data/mini", "runs": "runs/mini", "encoder": "export"}
        for name, place in places.items():
            print(f"  {name:<8} {out / place}")
    return {"seconds": seconds, "total_seconds": round(total, 1), "peak_gib": round(peak_gb, 2), "out": str(out)}
