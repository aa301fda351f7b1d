"""A made-up sweep of realistic shape and noise: nothing in it was measured, and its name says so.

Four rungs, three objectives, two starts, three seeds. Errors follow planted laws with noise of seeds and of test clips.

    python -m tests.scaling.study DIR      # writes it, to look at a report
"""

import json
import pathlib
import sys

import numpy as np

from alp_jax.config import RunConfig, to_dict
from alp_jax.core.run_files import Result
from alp_jax.scaling.sweep.ledger import collect

NAME = "synthetic"
RUNGS = (2000, 8000, 32_000, 128_000)
OBJECTIVES = ("contrastive", "captioning", "hybrid")
INITS = ("scratch", "runs/supervised")
SEEDS = (0, 1, 2)
PROBES = {  # task -> metric, chance, floor, error of contrastive at 2000 pairs and without end
    "sound_event": ("accuracy", 0.02, 0.21, 0.62, 0.18),
    "speaker": ("accuracy", 0.05, 0.44, 0.41, 0.08),
    "music_genre": ("accuracy", 0.10, 0.33, 0.55, 0.25),
    "tags": ("map", 0.08, 0.30, 0.60, 0.22),
}
STEP_SECONDS = {"contrastive": 0.11, "captioning": 0.16, "hybrid": 0.19}


def error(objective: str, init: str, task: str, pooling: str, pairs: int) -> float:
    """The planted law: captioning begins behind and falls faster, a supervised start helps less with more pairs."""
    first, last = PROBES[task][3:] if task in PROBES else (0.90, 0.30)
    scale, alpha = {"contrastive": (1.0, 0.30), "captioning": (1.22, 0.42), "hybrid": (1.03, 0.37)}[objective]
    x = pairs / RUNGS[0] * (1 if init == "scratch" else 1 + 2.5 * (RUNGS[0] / pairs) ** 0.5)
    value = last + scale * (first - last) * x**-alpha
    return value if pooling != "attention" else last + 0.9 * (value - last) / scale**0.5


def _metrics(rng, value: float, metric: str, chance: float | None, floor: float) -> dict[str, dict]:
    value = float(np.clip(value + 0.004 * rng.standard_normal(), 0.001, 0.999))
    half = 0.015
    return {
        metric: {"value": value, "interval": [max(0.0, value - half), value + half], "chance": chance, "floor": floor}
    }


def results(rng, objective: str, init: str, pairs: int, seed: int, trained: bool) -> list[dict]:
    """Evaluation files of one run."""
    found = []
    luck = 1 + 0.01 * (seed - 1)
    for task, (metric, chance, floor, first, _) in PROBES.items():
        for pooling in ("mean", "attention"):
            value = 1 - (error(objective, init, task, pooling, pairs) if trained else min(0.97, 1.35 * first)) * luck
            found.append(_file(task, pooling, _metrics(rng, value, metric, chance, floor)))
    for pooling in ("joint", "linear_alignment")[objective == "captioning" :]:
        for task in ("text_to_audio", "audio_to_text"):
            value = 1 - (error(objective, init, task, pooling, pairs) if trained else 0.97) * luck
            found.append(_file(task, pooling, _metrics(rng, value, "recall_at_10", 0.03, 0.12)))
    return found


def _file(task: str, pooling: str, metrics: dict) -> dict:
    sizes = {"n_train": 800, "n_test": 300, "classes": 12, "groups_train": 30, "groups_test": 12}
    settings = {"interval_over": "groups", "selection": "training groups", "split_hash": "0123abcd"}
    return Result(task, pooling, next(iter(metrics)), metrics, sizes | settings).to_json()


def write_run(folder: pathlib.Path, objective: str, init: str, pairs: int, seed: int, settings: dict) -> None:
    """What a finished run leaves. ``settings``: ``train.steps`` and others that differ from the defaults."""
    (folder / "eval").mkdir(parents=True)
    steps = settings["train.steps"]
    rng = np.random.default_rng([OBJECTIVES.index(objective), INITS.index(init), pairs, seed])
    summary = {
        "run": folder.name,
        "objective": objective,
        "init": init,
        "model": "zipformer_xxs",
        "params": 412_345 + 60_000 * (objective != "contrastive") + 9_000 * (objective == "hybrid"),
        "pairs": pairs,
        "steps": steps,
        "samples_seen": steps * 32,
        "audio_seconds": steps * 90.0,
        "flops": steps * 1.1e10 * STEP_SECONDS[objective] / 0.11,
        "seed": seed,
        "wall_seconds": steps * STEP_SECONDS[objective] * (1 + 0.03 * seed),
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    for one in results(rng, objective, init, pairs, seed, steps > 0):
        (folder / "eval" / f"{one['task']}-{one['pooling']}.json").write_text(json.dumps(one))
    config = to_dict(RunConfig())
    for name, value in {"seed": seed, "data.pairs": pairs, "objective.name": objective, **settings}.items():
        *path, last = name.split(".")
        part = config
        for key in path:
            part = part[key]
        assert last in part, name
        part[last] = value
    (folder / "config.json").write_text(json.dumps(config))
    environment = {
        "alp_jax": "0.0 (synthetic)",
        "git": "no code made these numbers",
        "python": "3.11",
        "packages": {"jax": "0.10.2", "flax": "0.12.0"},
        "platform": "a machine that does not exist",
        "devices": ["synthetic device"],
        "cpu_count": 2,
        "data_fingerprint": "synthetic",
    }
    (folder / "env.json").write_text(json.dumps(environment))
    (folder / "DONE").write_text("")


def write_study(folder: pathlib.Path, rungs=RUNGS, objectives=OBJECTIVES, inits=INITS, seeds=SEEDS) -> pathlib.Path:
    """A whole sweep folder; one more run has failed."""
    runs, folders = [], []

    def add(name, objective, init, pairs, seed, settings):
        folders.append(folder / "runs" / name)
        write_run(folders[-1], objective, init, pairs, seed, settings)
        kind = "trained" if settings["train.steps"] else "untrained"
        seconds = 40 + settings["train.steps"] * STEP_SECONDS[objective]
        record = {"id": name, "kind": kind, "status": "done", "attempts": 1, "exit_code": 0, "cause": ""}
        runs.append(record | {"seconds": seconds, "bytes": 2_500_000})

    for seed in seeds:
        add(f"untrained-{seed}", objectives[0], "scratch", 0, seed, {"train.steps": 0})
        for pairs in rungs:
            for objective in objectives:
                for init in inits:
                    name = f"{objective}-{pathlib.Path(init).name}-{pairs}-{seed}"
                    steps = round(300 * (pairs / 2000) ** 0.4)
                    add(name, objective, init, pairs, seed, {"train.steps": steps, "init": init})
    lost = {"id": "lost", "status": "failed", "exit_code": 46, "cause": "status 46: alp: <b>non-finite</b> loss"}
    runs.append(runs[-1] | lost)
    (folder / "sweep.json").write_text(json.dumps({"name": NAME, "seconds": 42_000.0, "runs": runs}))
    collect(folder / "ledger.jsonl", folders)
    return folder


if __name__ == "__main__":
    write_study(pathlib.Path(sys.argv[1]))
