"""Learning rates by step: warm-up with cosine decay, and the three Eden schedules of the reference's trainer.

Eden: Yao et al., "Zipformer", ICLR 2024. The reference sets the rate of an update after it has counted it, so the
first update (step 0 here) has batch 1 there.
"""

import dataclasses

import jax.numpy as jnp
import optax

from alp_jax.config.rules import warmup_steps
from alp_jax.config.schema import OptimConfig
from alp_jax.core.names import check_positive, choose

SCHEDULES = ("cosine", "eden", "eden2", "eden3")


def _fall(count, scale, exponent):
    return ((count**2 + scale**2) / scale**2) ** exponent


def eden(config: OptimConfig, batch, epoch=0.0):
    """The rate after ``batch`` updates in ``epoch``; ``eden3`` takes the epoch from ``steps_per_epoch`` instead.

    ``eden2`` has no epochs and falls with the square root of the batch count.
    """
    warmup = config.warmup_start + (1.0 - config.warmup_start) * jnp.minimum(batch / max(config.warmup_steps, 1), 1.0)
    if config.schedule == "eden2":
        return config.lr * _fall(batch, config.lr_batches, -0.5) * warmup
    if config.schedule == "eden3":
        epoch = batch / config.steps_per_epoch
    return config.lr * _fall(batch, config.lr_batches, -0.25) * _fall(epoch, config.lr_epochs, -0.25) * warmup


def learning_rate(config: OptimConfig, steps: int) -> optax.Schedule:
    """Learning rate by step, for a run of ``steps`` steps; its warm-up is no longer than the run.

    Raises:
      UserError: an unknown schedule, or one without a scale to fall on.
    """
    choose(config.schedule, SCHEDULES, "config.optim.schedule")
    config = dataclasses.replace(config, warmup_steps=warmup_steps(config, steps))
    if config.schedule != "cosine":
        check_positive("config.optim", lr_batches=config.lr_batches)
        if config.schedule == "eden2":
            return lambda step: eden(config, step + 1.0)
        check_positive("config.optim", lr_epochs=config.lr_epochs, steps_per_epoch=config.steps_per_epoch)
        return lambda step: eden(config, step + 1.0, jnp.floor(step / config.steps_per_epoch))
    last, lowest = max(steps, config.warmup_steps + 1), config.lr * config.final_lr_fraction
    return optax.warmup_cosine_decay_schedule(0.0, config.lr, config.warmup_steps, last, lowest)
