"""A sweep on paper: folders of finished runs with summaries and results, made without training."""

import json

import pytest

TASKS = (("sound_event", 0.02), ("speaker", 0.05), ("drum", 0.1), ("music_genre", 0.1))


def result(task, pooling, metric, value, chance, floor):
    return {
        "task": task,
        "pooling": pooling,
        "metric": metric,
        "value": value,
        "interval": [max(0.0, value - 0.03), min(1.0, value + 0.03)],
        "chance": chance,
        "floor": floor,
        "n_train": 800,
        "n_test": 300,
        "classes": 12,
        "groups_train": 30,
        "groups_test": 12,
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
    for i, (task, chance) in enumerate(TASKS):
        for pooling in ("mean", "attention"):
            value = 0.15 + 0.7 * quality + 0.01 * i + 0.005 * seed + 0.02 * (pooling == "attention")
            (folder / "eval" / f"{task}-{pooling}.json").write_text(
                json.dumps(result(task, pooling, "accuracy", round(value, 4), chance, 0.3))
            )
    if objective == "contrastive":
        for direction in ("text_to_audio", "audio_to_text"):
            for k in (1, 5, 10):
                chance = k / 300
                value = round(min(1.0, chance + (0.1 + 0.02 * k) * quality * (steps > 0)), 4)
                name = f"retrieval_{direction}_r{k}"
                (folder / "eval" / f"{name}-embedding.json").write_text(
                    json.dumps(result(name, "embedding", f"R@{k}", value, chance, None))
                )
    (folder / "DONE").write_text("")
    return folder


@pytest.fixture
def finished():
    return finish_run
