"""Runs of minutes on one CPU core or of seconds on a GPU: clips of up to a second, 32 in a batch, small towers.

    alp train --workdir runs/small --config=configs/small.py:objective=captioning,pairs=4k

Arguments, all optional: objective, pairs, init, tags and model as in configs/pretrain.py, where everything that is not
named here comes from. The length is ``--config.train.steps``.
"""

import dataclasses

from alp_jax.config import MODELS, RunConfig, parse_arguments, parse_count, to_config_dict
from alp_jax.config.arguments import choose
from alp_jax.config.schema import (
    DataConfig,
    EvalConfig,
    FeatureConfig,
    ObjectiveConfig,
    OptimConfig,
    SpecAugmentConfig,
    TrainConfig,
)
from alp_jax.config.schema.objective import objective_names

DEFAULTS = {"objective": "contrastive", "pairs": "all", "init": "scratch", "tags": "", "model": "zipformer_xxs"}
SUITE = "sound_event,speaker,persona,drum,soundtrack,tags,text_to_audio,audio_to_text"


def get_config(arg: str | None = None):
    """The configuration for ``arg`` (``key=value,...``); an unknown key or value fails and names the nearest."""
    values = parse_arguments(arg, DEFAULTS)
    data = DataConfig(pairs=parse_count(values["pairs"]), tags=values["tags"], bucket_seconds=(1.0,))
    data = dataclasses.replace(data, text_budget=24)
    config = RunConfig(
        init=values["init"],
        data=dataclasses.replace(data, batch_seconds=5120.0, clips_per_batch=32),  # the latter counts
        features=FeatureConfig(spec_augment=SpecAugmentConfig(enabled=False)),  # a run sees every clip a few times
        model=MODELS[choose(values["model"], MODELS, "model")],
        objective=ObjectiveConfig(
            name=choose(values["objective"], objective_names(), "objective"),
            temperature=0.15,  # softer than the paper's: few steps and 31 negatives
        ),
        optim=OptimConfig(lr=0.003, warmup_steps=20),
        train=TrainConfig(steps=500, log_every=10, save_every=100),
        # both objectives are compared by the linear alignment
        evaluation=EvalConfig(max_seconds=2.0, lit_steps=0, suite=SUITE),
    )
    return to_config_dict(config)
