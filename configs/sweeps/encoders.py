"""Which family of encoder, at the same number of operations per clip: Zipformer, ViT, Conformer, for both objectives.

    alp sweep --sweep configs/sweeps/encoders.py --out runs/encoders --on slurm --dry_run
    alp sweep --sweep configs/sweeps/encoders.py:size=mini --data data/mini --out runs/encoders

``size=paper``: as costly as Zipformer-M (see "alp models"), at 1M pairs, a third of the paper's steps; ``size=mini``:
small ones at 4k pairs. Families are matched on clips of 10 s: shorter ones cost a ViT relatively less.
"""

from alp_jax.config import parse_arguments
from alp_jax.config.algebra import over, product
from alp_jax.config.arguments import choose

OBJECTIVES = ("contrastive", "captioning")
BASES = {
    "paper": {"config": "configs/paper.py", "pairs": "1m", "config.train.steps": 200_000},
    "mini": {"config": "configs/small.py", "pairs": "4k", "config.train.steps": 500},
}
FAMILIES = {
    "paper": ("zipformer_m", "vit_b", "conformer_b"),
    "mini": ("zipformer_xxs", "vit_xxs", "conformer_xxs"),
}


def get_sweep(arg: str | None = None) -> list[dict]:
    """Six runs."""
    size = choose(parse_arguments(arg, {"size": "paper"})["size"], BASES, "size")
    return product([BASES[size]], over("objective", OBJECTIVES), over("model", FAMILIES[size]))
