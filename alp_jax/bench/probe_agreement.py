"""The linear probe in minibatches beside the exact one, on every label task of a data set.

    python -m alp_jax.bench.probe_agreement --run runs/demo --features /tmp/features            # clips as in the run
    python -m alp_jax.bench.probe_agreement --run runs/demo --features /tmp/features --clips 0  # all
    python -m alp_jax.bench.probe_agreement --run runs/demo --features /tmp/features --floor    # log-mel

Both fit the same features, selected by the same held-out clips. A streamed score that lies outside the interval of the
exact one is marked ``outside``.
"""

import argparse
import dataclasses
import json
import pathlib
import time

import numpy as np

from alp_jax.config.schema import EvalConfig
from alp_jax.core import storage
from alp_jax.evaluation.budget import MemoryBudget
from alp_jax.evaluation.features import Features
from alp_jax.evaluation.fit_state import Saves
from alp_jax.evaluation.probes.data import ProbeData
from alp_jax.evaluation.probes.evaluator import ProbeEvaluator, score_probe
from alp_jax.evaluation.probes.linear_probe import linear_probe
from alp_jax.evaluation.stats.floors import log_mel_model
from alp_jax.train.evaluate import eval_model, open_suite

AMPLE = 1 << 40  # bytes: every fit is exact


def both_fits(evaluator: ProbeEvaluator, features: Features, config: EvalConfig, *, floor: bool) -> dict:
    """Both fits of one task: scores, the exact one's interval, penalties, seconds, and the share of equal answers."""
    task = evaluator.split
    read = features.moments if floor else features.mean
    test = task.test_row
    data = ProbeData(
        lambda at: read(task.train_row[at]), task.train_y, task.held, lambda at: read(test[at]), len(test),
        len(task.classes),
    )  # fmt: skip
    device = MemoryBudget.of(config).device
    found = {}
    for name, budget in (("exact", MemoryBudget(AMPLE, AMPLE)), ("streamed", MemoryBudget(0, device))):
        began = time.monotonic()
        answers, selected = linear_probe(data, epochs=config.probe_epochs, budget=budget, saves=Saves())
        metric, value = score_probe(task, answers, selected).headline()
        found[name] = {"value": value["value"], "interval": value["interval"], "seconds": time.monotonic() - began}
        found[name] |= {"answers": answers, "penalty": selected["penalty"], "steps": selected.get("steps")}
    answers = [one.pop("answers") for one in found.values()]
    low, high = found["exact"]["interval"]
    return {
        "task": task.name,
        "metric": metric,
        "clips": [len(task.train_row), len(test)],
        "classes": len(task.classes),
        "same_answers": None if task.train_y.ndim == 2 else float(np.mean(answers[0] == answers[1])),
        "inside": bool(low <= found["streamed"]["value"] <= high),
        **found,
    }


def markdown(row: dict) -> str:
    """One row of a Markdown table."""
    exact, streamed = row["exact"], row["streamed"]
    same = "-" if row["same_answers"] is None else f"{row['same_answers']:.3f}"
    ends = "[{:.3f}, {:.3f}]".format(*exact["interval"])
    cells = (
        row["task"], *row["clips"], row["classes"], row["metric"], f"{exact['value']:.3f}", ends,
        f"{streamed['value']:.3f}", f"{streamed['value'] - exact['value']:+.3f}", "yes" if row["inside"] else "outside",
        same, f"{exact['penalty']:g} / {streamed['penalty']:g}", streamed["steps"],
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


HEAD = (
    "| task | train | test | classes | metric | exact | 95% interval | streamed | difference | inside | same answers "
    "| penalty, exact / streamed | steps |"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=pathlib.Path, required=True, help="folder of a trained run")
    parser.add_argument("--data", type=storage.location, help="data set; by default the run's own")
    parser.add_argument("--features", type=pathlib.Path, required=True, help="folder in which features are kept")
    parser.add_argument("--clips", type=int, help="training and test clips of a task, 0 for all (default: the run's)")
    parser.add_argument("--floor", action="store_true", help="log-mel statistics in the place of the encoder's means")
    args = parser.parse_args()
    model, config = eval_model(args.run)
    if args.clips is not None:
        changed = dataclasses.replace(config.evaluation, max_train_clips=args.clips, max_test_clips=args.clips)
        config = dataclasses.replace(config, evaluation=changed)
    suite = open_suite(args.run, config, "mini", args.data)
    tasks = {name: one for name, one in suite.evaluators.items() if isinstance(one, ProbeEvaluator)}
    encoder = log_mel_model(config.features) if args.floor else model
    features = suite.extract(encoder, tasks, args.features / encoder.name / "frames", keep_frames=False)
    rows = []
    print(f"{HEAD}\n|{'---|' * (HEAD.count('|') - 1)}")
    for one in tasks.values():
        rows.append(both_fits(one, features, suite.setup.config, floor=args.floor))
        print(markdown(rows[-1]), flush=True)
    print(json.dumps({"model": encoder.name, "data": suite.setup.dataset.fingerprint, "rows": rows}, sort_keys=True))


if __name__ == "__main__":
    main()
