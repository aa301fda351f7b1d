"""A sweep on paper: folders of finished runs with summaries and results, made without training."""

import json

import pytest

TASKS = (("sound_event", 0.02), ("speaker", 0.05), ("drum", 0.1), ("music_genre", 0.1))


def result(task, pooling, values):
    """An evaluation file; ``values``: metric -> (value, chance, floor)."""
    metrics = {
        metric: {
            "value": value,
            "interval": None if chance is None else [max(0.0, value - 0.03), min(1.0, value + 0.03)],
            "chance": chance,
            "floor": floor,
        }
        for metric, (value, chance, floor) in values.items()
    }
    headline = next(iter(metrics))
    return {
        "task": task,
        "pooling": pooling,
        "metric": headline,
        **metrics[headline],
        "metrics": metrics,
        "n_train": 800,
        "n_test": 300,
        "classes": 12,
        "groups_train": 30,
        "groups_test": 12,
        "interval_over": "groups",
        "selection": "training groups",
        "split_hash": "0123abcd",
        "seconds": 2.5,
        "data_fingerprint": "feedbeef",
    }


def finish_run(folder, objective="contrastive", pairs=1000, seed=0, steps=300, quality=0.5):
    """Writes what a finished run leaves; ``quality`` in 0 to 1 moves every value."""
    (folder / "eval").mkdir(parents=True)
    summary = {
        "run": folder.name,
        "objective": objective,
        "init": "scratch",
        "model": "zipformer_xxs",
        "params": 412_345,
        "pairs": pairs,
        "steps": steps,
        "samples_seen": steps * 32,
        "audio_seconds": steps * 90.0,
        "flops": steps * 1e10,
        "seed": seed,
        "wall_seconds": 40.0 + seed,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    results = []
    for i, (task, chance) in enumerate(TASKS):
        for pooling in ("mean", "attention"):
            value = round(0.15 + 0.7 * quality + 0.01 * i + 0.005 * seed + 0.02 * (pooling == "attention"), 4)
            values = {"accuracy": (value, chance, 0.3), "balanced_accuracy": (value - 0.05, chance, 0.25)}
            results.append(result(task, pooling, values))
    for pooling in ("joint", "linear_alignment")[objective != "contrastive" :]:
        for direction in ("text_to_audio", "audio_to_text"):
            gain = 0.5 * quality * (steps > 0)
            values = {f"recall_at_{k}": (round(k / 300 + gain * (0.5 + k / 20), 4), k / 300, 0.05) for k in (10, 5, 1)}
            results.append(result(direction, pooling, values | {"median_rank": (40.5, None, 60.0)}))
    for one in results:
        (folder / "eval" / f"{one['task']}-{one['pooling']}.json").write_text(json.dumps(one))
    (folder / "DONE").write_text("")
    return folder


@pytest.fixture
def finished():
    return finish_run
