"""The paper's grid: two objectives, four nested rungs of CaptionStew, from scratch and from a supervised encoder.

    alp sweep --sweep configs/sweeps/paper.py --out runs/paper --on slurm --dry_run
    alp sweep --sweep configs/sweeps/paper.py:size=mini,init=runs/tagging --data data/mini --out runs/starts

Every setting of a run is stated in configs/paper.py. Arguments, all optional:
  size   paper, or mini: the same grid on the mini corpus with small encoders, minutes a run
  init   folder of the supervised start (paper: "alp import" of the AudioSet classifier; mini: a run of
         configs/small.py:objective=tagging)
  model  which encoder; a 512 wide start, as the public ones are, takes zipformer_m (paper: by_source; mini:
         zipformer_xxs)
"""

from alp_jax.config import parse_arguments
from alp_jax.config.algebra import over, product, zipped
from alp_jax.config.arguments import choose

OBJECTIVES = ("contrastive", "captioning")
RUNGS = ("400k", "1m", "4m", "10m")
MINI_STEPS = {"2k": 400, "4k": 500, "8k": 700, "16k": 900}
MODELS = {"paper": "by_source", "mini": "zipformer_xxs"}


def get_sweep(arg: str | None = None) -> list[dict]:
    """The sixteen runs."""
    values = parse_arguments(arg, {"size": "paper", "init": "runs/audioset", "model": "default"})
    size = choose(values["size"], MODELS, "size")
    model = MODELS[size] if values["model"] == "default" else values["model"]
    starts = product(over("objective", OBJECTIVES), over("init", ("scratch", values["init"])))
    if size == "paper":
        return product([{"config": "configs/paper.py", "model": model}], over("pairs", RUNGS), starts)
    rungs = zipped(over("pairs", MINI_STEPS), over("config.train.steps", MINI_STEPS.values()))
    return product([{"config": "configs/small.py", "model": model}], rungs, starts)
