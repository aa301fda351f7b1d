"""The paper's questions on the mini corpus: three objectives, four nested rungs, two starts, three seeds.

    alp tags --data data/mini --kind tags --out runs/tags.json
    alp train --workdir runs/tagger --config=configs/small.py:objective=tagging,tags=runs/tags.json \\
        --config.data.path=data/mini --config.train.steps=900
    alp sweep --sweep configs/sweeps/study.py:init=runs/tagger --data data/mini --out runs/study --parallel 2

The supervised start has learned tags of all training clips, as the paper's has learned AudioSet's labels of more clips
than its small rungs have. Beside the 72 runs, both starts as they are (no steps): what every curve is read against.
Evaluated are all probes of the corpus with both poolings, retrieval and captioning.

Argument:
  init  folder of the run that learned the tags
"""

from alp_jax.config import parse_arguments
from alp_jax.config.algebra import chain, over, product, zipped

OBJECTIVES = ("contrastive", "captioning", "hybrid")
STEPS = {"2k": 400, "4k": 400, "8k": 500, "16k": 600}  # at each rung; a step sees 32 clips
SEEDS = (0, 1, 2)
START_S = 45.0  # on one core, evaluation included; measured runs replace what comes of these seconds
STEP_S = {"contrastive": 0.15, "captioning": 0.18, "hybrid": 0.22}
UNTRAINED_S = 35.0
SUITE = "sound_event,speaker,persona,drum,soundtrack,tags,text_to_audio,audio_to_text,captioning"


def get_sweep(arg: str | None = None) -> list[dict]:
    """One seed's whole grid before the next, so that a sweep which is stopped leaves whole curves."""
    init = parse_arguments(arg, {"init": "runs/tagger"})["init"]
    base = [{"config": "configs/small.py", "config.evaluation.suite": SUITE}]
    rungs = zipped(over("pairs", STEPS), over("config.train.steps", STEPS.values()))
    trained = [
        {**run, "seconds": START_S + STEP_S[run["objective"]] * run["config.train.steps"]}
        for run in product(rungs, over("objective", OBJECTIVES))
    ]
    untrained = [{"objective": "contrastive", "config.train.steps": 0, "seconds": UNTRAINED_S}]
    return product(base, over("config.seed", SEEDS), chain(untrained, trained), over("init", ("scratch", init)))
