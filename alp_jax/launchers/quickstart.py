"""The whole path from data to report as a list of commands; each is printed and run, and skips work already done."""

import importlib.util
import pathlib
import resource
import subprocess
import sys
import time

from alp_jax.core.cores import usable_cores
from alp_jax.core.errors import ChildFailed, UserError
from alp_jax.core.pace import duration
from alp_jax.core.run_files import LEDGER

MADE = {"report": "report/index.html", "shards": "data/mini", "runs": "runs/mini", "encoder": "export"}


def stages(out: pathlib.Path, sweep_file: str, tier: str) -> list[tuple[str, list[str], float]]:
    """(title, command, typical minutes on two cores) of every stage."""
    data, sweep, report = str(out / "data" / "mini"), str(out / "runs" / "mini"), str(out / "report")
    stats, captions = str(out / "data" / "stats.json"), str(out / "data" / "captions.json")
    ledger = str(pathlib.Path(sweep, LEDGER))
    at_once = str(min(2, len(usable_cores())))  # two runs on one core each get 1.5 times as much done as one run on two
    return [
        ("fetch real audio", ["data", "fetch", "mini", "--tier", tier], 0.7),
        ("build shards", ["data", "build", "mini", "--tier", tier, "--codec", "pcm", "--out", data], 0.6),
        ("train the vocabulary", ["tokenizer", "--data", data, "--vocab_size", "2048"], 0.1),
        ("count the clips", ["data", "stats", data, "--out", stats], 0.1),
        ("describe the captions", ["data", "captions", data, "--out", captions], 0.1),
        (
            "train and evaluate the grid",
            ["sweep", "--sweep", sweep_file, "--data", data, "--out", sweep, "--parallel", at_once],
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


def run_stages(out: pathlib.Path, sweep_file: str, tier: str) -> dict:
    """Runs every stage; returns seconds by title, and the memory that the largest process took.

    Raises:
      UserError: a package is not installed that the last stages need.
      ChildFailed: a stage failed; the same call resumes there.
    """
    for package, extra in (("matplotlib", "report"), ("torch", "torch")):  # needed at the end, after the runs
        if importlib.util.find_spec(package) is None:
            raise UserError(f"the quickstart needs {package}: pip install 'alp_jax[{extra}]'")
    began, seconds = time.monotonic(), {}
    todo = stages(out, sweep_file, tier)
    for number, (title, command, _) in enumerate(todo):
        left = duration(60 * sum(minutes for *_, minutes in todo[number:]))
        print(f"\n[{number + 1}/{len(todo)}] {title} (about {left} to go)\n$ alp {' '.join(command)}", flush=True)
        start = time.monotonic()
        status = subprocess.run([sys.executable, "-m", "alp_jax", *command], check=False).returncode
        seconds[title] = round(time.monotonic() - start, 1)
        if status:
            raise ChildFailed(
                f"stage '{title}' ended with status {status}; run the same command again to resume", status
            )
    peak_gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    total = round(time.monotonic() - began, 1)
    return {"seconds": seconds, "total_seconds": total, "peak_gib": round(peak_gib, 2), "out": str(out.resolve())}
