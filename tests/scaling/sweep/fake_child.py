"""Stands in for a training run in the tests of the sweep: FOLDER, a run id, and what to do."""

import json
import os
import pathlib
import signal
import sys
import time

folder, behaviour = pathlib.Path(sys.argv[1]), sys.argv[2]
root = folder.parent.parent
folder.mkdir(parents=True, exist_ok=True)
stop = []
signal.signal(signal.SIGTERM, lambda number, frame: stop.append(number))


def note(text):
    with (root / "calls.txt").open("a") as file:
        file.write(f"{text} {folder.name}\n")


(folder / "pid").write_text(str(os.getpid()))
note("start")
if behaviour == "fail" and not (root / "mended").exists():
    print("some output")
    print("alp: no good learning rate", file=sys.stderr)
    sys.exit(46)
if behaviour == "kill":
    signal.raise_signal(signal.SIGKILL)
if behaviour == "empty":
    sys.exit(0)
limit = time.monotonic() + 20
while behaviour == "together" and (root / "calls.txt").read_text().count("start") < 2:
    if time.monotonic() > limit:
        sys.exit("no other run began while this one was at work")
    time.sleep(0.01)
long = (behaviour == "slow" and not (root / "mended").exists()) or (
    behaviour == "held" and not (root / "released").exists()
)
limit = time.monotonic() + (30 if long else 0.1)
while time.monotonic() < limit:
    if stop:
        note("saved")
        sys.exit(42)
    time.sleep(0.01)
(folder / "eval").mkdir(exist_ok=True)
objective, pairs = folder.name.split("-")[:2]
columns = ("params", "steps", "samples_seen", "audio_seconds", "flops", "seed", "wall_seconds")
names = {"run": folder.name, "objective": objective, "init": "scratch", "model": "m", "pairs": int(pairs)}
summary = dict.fromkeys(columns, 1) | names
(folder / "cores.json").write_text(json.dumps(sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []))
(folder / "gpus.txt").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
(folder / "summary.json").write_text(json.dumps(summary))
values = {"value": 0.5, "interval": [0.4, 0.6], "chance": 0.1, "floor": None}
result = {"task": "t", "pooling": "mean", "metric": "accuracy", **values, "metrics": {"accuracy": values}}
(folder / "eval" / "t-mean.json").write_text(json.dumps(result))
(folder / "DONE").write_text("")
note("done")
