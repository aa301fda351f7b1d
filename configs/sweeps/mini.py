"""The mini grid: two objectives, three nested rungs of the data ladder, two seeds, and the untrained encoder.

    alp sweep --sweep configs/sweeps/mini.py --data data/mini --out runs/mini

All runs have the same batch. Steps grow with the rung: a small one repeats its clips and gains little after some
hundred steps, a large one still does. The untrained encoder (no steps) is evaluated with the same probes; its objective
only decides which text side is built and left idle.
Sized for two CPU cores with a run on each (``--parallel 2``).
"""

import itertools

OBJECTIVES = ("contrastive", "captioning")
STEPS = {"1k": 300, "4k": 500, "16k": 900}  # at each rung
SEEDS = (0, 1)


def get_sweep() -> dict:
    """The sweep: keys without ``config.`` are arguments of the config file, the others its settings.

    One seed's whole curve comes before the next, so that neighbours in time compile different programs.
    """
    runs = []
    for seed in SEEDS:
        runs.append({"kind": "untrained", "objective": "contrastive", "config.train.steps": 0, "config.seed": seed})
        runs += [
            {
                "kind": "trained",
                "objective": objective,
                "pairs": pairs,
                "config.train.steps": steps,
                "config.seed": seed,
            }
            for (pairs, steps), objective in itertools.product(STEPS.items(), OBJECTIVES)
        ]
    return {
        "config": "configs/pretrain.py",
        "shared": {
            "model": "zipformer_xxs",
            "config.data.bucket_seconds": (1.0,),
            "config.data.clips_per_batch": 32,
            "config.data.text_budget": 24,
            "config.features.spec_augment.enabled": False,  # a run sees every clip once or twice
            "config.objective.temperature": 0.15,  # softer than the paper's: few steps and 31 negatives
            "config.optim.lr": 0.003,
            "config.optim.warmup_steps": 20,
            "config.train.log_every": 10,
            "config.train.save_every": 100,
            "config.evaluation.max_seconds": 2.0,
            "config.evaluation.lit_steps": 0,  # both objectives are compared by the linear alignment
            "config.evaluation.suite": "sound_event,speaker,persona,drum,soundtrack,tags,text_to_audio,audio_to_text",
        },
        "runs": runs,
        # what the estimate of the finish starts from, seconds on one core; measured runs replace it
        "typical_seconds": {"untrained": 22.0, "trained": 35.0, "step": 0.1},
    }
