"""Twelve real runs of a few steps, two of which fail: one start that is not there, one learning rate that is too high.

Used by tests/scaling/kills.py. They differ in their seeds alone, so that one compilation serves all.
"""

from alp_jax.config import ConfigError
from alp_jax.config.algebra import chain, over, product


def get_sweep(arg: str | None = None) -> list[dict]:
    if arg:
        raise ConfigError(f"{arg!r}: this sweep takes no arguments")
    base = {
        "config": "configs/small.py",
        "pairs": "1k",
        "config.train.steps": 24,
        "config.train.save_every": 6,
        "config.train.max_bad_steps": 3,
        "config.evaluation.suite": "drum",
        "config.evaluation.attention_steps": 20,
    }
    failing = [
        {"config.seed": 100, "init": "runs/not_there"},
        {"config.seed": 101, "config.optim.lr": 1e30},
    ]
    good = over("config.seed", range(10))
    return product([base], chain(good[:3], failing[:1], good[3:7], failing[1:], good[7:]))
