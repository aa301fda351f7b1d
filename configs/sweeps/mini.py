"""The mini grid: two objectives, three nested rungs of the data ladder, two seeds, and the untrained encoder.

    alp sweep --sweep configs/sweeps/mini.py --data data/mini --out runs/mini

All runs have the same batch. Steps grow with the rung: a small one repeats its clips and gains little after some
hundred steps, a large one still does. The untrained encoder (no steps) is evaluated with the same probes; its objective
only decides which text side is built and left idle.
Sized for two CPU cores with a run on each (``--parallel 2``).
"""

from alp_jax.config import ConfigError
from alp_jax.config.algebra import chain, over, product, zipped

OBJECTIVES = ("contrastive", "captioning")
STEPS = {"1k": 300, "4k": 500, "16k": 900}  # at each rung
SEEDS = (0, 1)
UNTRAINED_S, START_S, STEP_S = 22.0, 35.0, 0.1  # seconds on one core; measured runs replace what comes of them


def get_sweep(arg: str | None = None) -> list[dict]:
    """The runs. One seed's whole curve comes before the next, so that neighbours in time compile different programs."""
    if arg:
        raise ConfigError(f"{arg!r}: this sweep takes no arguments")
    base = [{"config": "configs/small.py"}]
    seconds = [START_S + STEP_S * steps for steps in STEPS.values()]
    rungs = zipped(over("pairs", STEPS), over("config.train.steps", STEPS.values()), over("seconds", seconds))
    untrained = [{"objective": "contrastive", "config.train.steps": 0, "seconds": UNTRAINED_S}]
    trained = product(rungs, over("objective", OBJECTIVES))
    return product(base, over("config.seed", SEEDS), chain(untrained, trained))
