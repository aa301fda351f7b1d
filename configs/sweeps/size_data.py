"""Size of the encoder times size of the data, for laws in both (``alp scaling fit --law data_model``).

    alp sweep --sweep configs/sweeps/size_data.py --out runs/size_data --on slurm --dry_run
    alp sweep --sweep configs/sweeps/size_data.py:size=mini --data data/mini --out runs/size_data

``size=paper``: Zipformer S, M and L at the paper's rungs and steps; ``size=mini``: two small ones at four rungs.
``objective`` is contrastive unless it is said.
"""

from alp_jax.config import parse_arguments
from alp_jax.config.algebra import over, product, zipped
from alp_jax.config.arguments import choose

MODELS = {"paper": ("zipformer_s", "zipformer_m", "zipformer_l"), "mini": ("zipformer_xxs", "zipformer_xs")}
RUNGS = ("400k", "1m", "4m", "10m")
MINI_STEPS = {"2k": 400, "4k": 500, "8k": 700, "16k": 900}


def get_sweep(arg: str | None = None) -> list[dict]:
    """Twelve runs, or eight."""
    values = parse_arguments(arg, {"size": "paper", "objective": "contrastive"})
    size = choose(values["size"], MODELS, "size")
    rungs = over("pairs", RUNGS)
    if size == "mini":
        rungs = zipped(over("pairs", MINI_STEPS), over("config.train.steps", MINI_STEPS.values()))
    file = {"paper": "configs/paper.py", "mini": "configs/small.py"}[size]
    return product([{"config": file, "objective": values["objective"]}], rungs, over("model", MODELS[size]))
