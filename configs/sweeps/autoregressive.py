"""How many captions are decoded in order: the autoregressive share of captioning, the rest being decoded in parallel.

    alp sweep --sweep configs/sweeps/autoregressive.py --out runs/autoregressive --on slurm --dry_run
    alp sweep --sweep configs/sweeps/autoregressive.py:size=mini --data data/mini --out runs/autoregressive

``size=paper``: the paper's encoder at 1M pairs, a third of its steps (the paper itself takes 0.25, its public code 1);
``size=mini``: a small one at 4k pairs.
"""

from alp_jax.config import parse_arguments
from alp_jax.config.algebra import over, product
from alp_jax.config.arguments import choose

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
BASES = {
    "paper": {"config": "configs/paper.py", "pairs": "1m", "config.train.steps": 200_000},
    "mini": {"config": "configs/small.py", "pairs": "4k", "config.train.steps": 500},
}


def get_sweep(arg: str | None = None) -> list[dict]:
    """Five runs."""
    size = choose(parse_arguments(arg, {"size": "paper"})["size"], BASES, "size")
    base = {**BASES[size], "objective": "captioning"}
    return product([base], over("config.objective.autoregressive_share", SHARES))
