"""Pretrain one audio encoder from captions.

    alp train --workdir runs/demo --config=configs/pretrain.py:objective=contrastive,pairs=400k,model=zipformer_m

Arguments, all optional:
  objective      contrastive | captioning | hybrid | tagging (supervised, its encoder is a start for the others)
  pairs          rung of the nested data ladder: 400k, 1m, 4m, 10m, any number, or all
  init           scratch, or the folder of a run or of 'alp import' whose encoder is the start (the paper's supervised
                 start is an AudioSet classifier's)
  tags           list of tags that "alp tags" made, for objective=tagging
  model          zipformer_m (the paper's encoder), zipformer_xxs (one CPU), vit_b, conformer_b, ...: see "alp models"
  batch_seconds  seconds of padded audio in a global batch; the paper used 8 x 640

Length follows the paper: 600k steps from scratch, 200k from a start. Everything else is a flag, for example
``--config.optim.lr=0.0005`` or ``--config.data.path=data/captionstew``.
"""

from alp_jax.config import MODELS, RunConfig, parse_arguments, parse_count, to_config_dict
from alp_jax.config.arguments import choose
from alp_jax.config.schema import CHOSEN_WIDTHS, DataConfig, ObjectiveConfig, TrainConfig
from alp_jax.config.schema.objective import objective_names

DEFAULTS = {
    "objective": "contrastive",
    "pairs": "all",
    "init": "scratch",
    "tags": "",
    "model": "zipformer_m",
    "batch_seconds": "5120",
}


def get_config(arg: str | None = None):
    """The configuration for ``arg`` (``key=value,...``); an unknown key fails and names the nearest."""
    values = parse_arguments(arg, DEFAULTS)
    scratch = values["init"] == "scratch"
    config = RunConfig(
        init=values["init"],
        data=DataConfig(
            pairs=parse_count(values["pairs"]),
            batch_seconds=float(parse_count(values["batch_seconds"])),
            tags=values["tags"],
            # without negatives, captions of like lengths can share a batch: they cost what they have
            text_widths=CHOSEN_WIDTHS if values["objective"] == "captioning" else (),
        ),
        model=MODELS[choose(values["model"], MODELS, "model")],
        objective=ObjectiveConfig(name=choose(values["objective"], objective_names(), "objective")),
        train=TrainConfig(steps=600_000 if scratch else 200_000),
    )
    return to_config_dict(config)
