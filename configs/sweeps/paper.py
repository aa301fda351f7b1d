"""The paper's grid: two objectives, four nested rungs of CaptionStew, from scratch and from a supervised encoder.

    alp sweep --sweep configs/sweeps/paper.py --out runs/paper --on slurm --dry_run
    alp sweep --sweep configs/sweeps/paper.py:size=mini,init=runs/tagging --data data/mini --out runs/starts

Every setting of a run is stated in configs/paper.py. What runs need and is not there (data set, tokenizers, starts) is
named all at once, before anything starts and in the dry run. Arguments, all optional:
  size       paper, or mini: the same grid on the mini corpus with small encoders, minutes a run
  init       folder of the supervised start (paper: "alp import" of the AudioSet classifier; mini: a run of
             configs/small.py:objective=tagging)
  model      encoder of all runs (paper: that of the start, 512 wide or 768, as soon as its folder is there; mini:
             zipformer_xxs)
  precision  f32 | bf16, of the size paper
  devices    64 | 32: most devices that share a batch, of the size paper
"""

from alp_jax.config import model_in, parse_arguments
from alp_jax.config.algebra import over, product, zipped
from alp_jax.config.arguments import choose

OBJECTIVES = ("contrastive", "captioning")
RUNGS = ("400k", "1m", "4m", "10m")
MINI_STEPS = {"2k": 400, "4k": 500, "8k": 700, "16k": 900}
MODELS = {"paper": "by_source", "mini": "zipformer_xxs"}
DEFAULTS = {"size": "paper", "init": "runs/audioset", "model": "default", "precision": "f32", "devices": "64"}


def get_sweep(arg: str | None = None) -> list[dict]:
    """The sixteen runs."""
    values = parse_arguments(arg, DEFAULTS)
    size = choose(values["size"], MODELS, "size")
    model = values["model"]
    if model == "default":
        model = values["init"] if size == "paper" and model_in(values["init"]) else MODELS[size]
    starts = product(over("objective", OBJECTIVES), over("init", ("scratch", values["init"])))
    if size == "paper":
        same = {name: values[name] for name in ("precision", "devices")}
        return product([{"config": "configs/paper.py", "model": model, **same}], over("pairs", RUNGS), starts)
    rungs = zipped(over("pairs", MINI_STEPS), over("config.train.steps", MINI_STEPS.values()))
    return product([{"config": "configs/small.py", "model": model}], rungs, starts)
