"""How much of each loss: the contrastive share of the hybrid objective, between captioning (0) and contrastive (1).

    alp sweep --sweep configs/sweeps/hybrid.py --out runs/hybrid --on slurm --dry_run
    alp sweep --sweep configs/sweeps/hybrid.py:size=mini --data data/mini --out runs/hybrid

``size=paper``: the paper's encoder at 1M pairs, a third of its steps; ``size=mini``: a small one at 4k pairs. All runs
clean captions alike, so that nothing but the loss differs. The ends are the plain objectives: they build one text side.
"""

from alp_jax.config import parse_arguments
from alp_jax.config.algebra import chain, over, product
from alp_jax.config.arguments import choose

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
# size -> the file and rung; what paper.py says for captioning holds for all
BASES = {
    "paper": {
        "config": "configs/paper.py",
        "pairs": "1m",
        "objective": "captioning",
        "config.train.steps": 200_000,
    },
    "mini": {"config": "configs/small.py", "pairs": "4k", "config.train.steps": 500},
}


def get_sweep(arg: str | None = None) -> list[dict]:
    """Seven runs."""
    size = choose(parse_arguments(arg, {"size": "paper"})["size"], BASES, "size")
    both = product([{"config.objective.name": "hybrid"}], over("config.objective.contrastive_share", SHARES))
    return product([BASES[size]], chain(over("config.objective.name", ("captioning", "contrastive")), both))
