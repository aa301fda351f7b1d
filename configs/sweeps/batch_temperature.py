"""Batch size times temperature of the contrastive loss, at the same number of clips seen.

    alp sweep --sweep configs/sweeps/batch_temperature.py --out runs/batch --on slurm --dry_run
    alp sweep --sweep configs/sweeps/batch_temperature.py:size=mini --data data/mini --out runs/batch

``size=paper``: the paper's encoder at 1M pairs, a quarter to twice its batch, as many clips as a third of its steps
see; ``size=mini``: a small one at 4k pairs. The temperature is held where it is set. The learning rate is the same
everywhere, which favours no size but the one it was chosen for.
"""

from alp_jax.config import parse_arguments
from alp_jax.config.algebra import over, product, zipped
from alp_jax.config.arguments import choose

BASES = {
    "paper": {"config": "configs/paper.py", "pairs": "1m"},
    "mini": {"config": "configs/small.py", "pairs": "4k"},
}
# size -> knob, steps by its value, temperatures
GRIDS = {
    "paper": (
        "config.data.batch_seconds",
        {1280.0: 800_000, 2560.0: 400_000, 5120.0: 200_000, 10240.0: 100_000},
        (0.02, 0.07, 0.2),
    ),
    "mini": ("config.data.clips_per_batch", {16: 1000, 32: 500, 64: 250}, (0.05, 0.15, 0.5)),
}


def get_sweep(arg: str | None = None) -> list[dict]:
    """Twelve runs, or nine."""
    size = choose(parse_arguments(arg, {"size": "paper"})["size"], BASES, "size")
    knob, steps, temperatures = GRIDS[size]
    batches = zipped(over(knob, steps), over("config.train.steps", steps.values()))
    base = {**BASES[size], "objective": "contrastive", "config.objective.learn_temperature": False}
    return product([base], batches, over("config.objective.temperature", temperatures))
