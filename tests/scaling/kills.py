"""A sweep of real runs, undisturbed and under kills of its driver: is the table the same?

python -m tests.scaling.kills --data data/mini --out build/kills --kills 10
"""

import argparse
import hashlib
import json
import pathlib
import random
import signal
import subprocess
import sys
import time

SWEEP = "tests/scaling/tiny_sweep.py"


def command(out: pathlib.Path, data: str) -> list[str]:
    return [sys.executable, "-m", "alp_jax", "sweep", f"--sweep={SWEEP}", f"--data={data}", f"--out={out}"]


def kill_driver(out: pathlib.Path, data: str, log, rng: random.Random) -> str:
    """Starts the sweep, lets it work for a random while and kills its driver; what it was doing then.

    It waits until a run has begun: before that there is nothing to disturb.
    """
    driver = subprocess.Popen(command(out, data), stdout=log, stderr=log, start_new_session=True)
    state = out / "sweep.json"
    before = attempts(state)
    while attempts(state) <= before:
        if driver.poll() is not None:
            return f"ended by itself with {driver.returncode}"
        time.sleep(0.05)
    wait = rng.uniform(1.0, 40.0)
    try:
        driver.wait(wait)
    except subprocess.TimeoutExpired:
        driver.kill()
        driver.wait()
        running = [run["id"] for run in json.loads(state.read_text())["runs"] if run["status"] == "running"]
        return f"killed {wait:.1f} s into its first run, at work on {' '.join(running) or 'none'}"
    return f"ended by itself with {driver.returncode}"


def attempts(state: pathlib.Path) -> int:
    """How often runs have been started."""
    return sum(run["attempts"] for run in json.loads(state.read_text())["runs"]) if state.exists() else 0


def finish(out: pathlib.Path, data: str, log) -> list[dict]:
    """Runs the sweep to its end and writes the table; the records of its runs."""
    status = subprocess.run(command(out, data), stdout=log, stderr=log).returncode
    assert status == 1, f"two runs were to fail, but the sweep ended with {status}"
    subprocess.run([sys.executable, "-m", "alp_jax", "sweep", "table", f"--out={out}"], check=True)
    return json.loads((out / "sweep.json").read_text())["runs"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--kills", type=int, default=10)
    args = parser.parse_args()
    rng, folders = random.Random(0), {name: args.out / name for name in ("disturbed", "undisturbed")}
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "output.txt").open("w") as log:
        killed = 0
        while killed < args.kills:
            said = kill_driver(folders["disturbed"], args.data, log, rng)
            killed += said.startswith("killed")
            print(f"kill {killed}: {said}", flush=True)
            assert said.startswith("killed"), "the sweep ended before it was killed often enough"
        found = {name: finish(folder, args.data, log) for name, folder in folders.items()}
    for name, runs in found.items():
        for run in runs:
            print(f"{name}: {run['id']} {run['status']} after {run['attempts']} attempts {run['cause'][:110]}")
    statuses = {name: [(run["id"], run["status"]) for run in runs] for name, runs in found.items()}
    assert statuses["disturbed"] == statuses["undisturbed"]
    assert sum(status == "failed" for _, status in statuses["disturbed"]) == 2
    for name in ("ledger.csv", "ledger.parquet"):
        content = {which: (folder / name).read_bytes() for which, folder in folders.items()}
        sums = {which: hashlib.sha256(data).hexdigest()[:16] for which, data in content.items()}
        print(name, sums, "equal" if len(set(sums.values())) == 1 else "DIFFERENT")
        assert content["disturbed"] == content["undisturbed"]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    main()
