"""What has to hold before a run computes anything, with ``--dry_run`` as without."""

from collections.abc import Callable, Sequence

import jax

from alp_jax.config import ConfigError, RunConfig, check_run
from alp_jax.config.rules import NEEDS_NEGATIVES, why_negatives
from alp_jax.config.schema import TrainConfig
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError
from alp_jax.data.order.buckets import Bucket
from alp_jax.train.checkpoint_keep import Keep
from alp_jax.train.logs.writers import parse_logs
from alp_jax.train.profile import parse_steps


def check_settings(config: RunConfig) -> Keep:
    """What retention leaves; ConfigError or UserError for settings that no run can have."""
    check_run(config)
    parse_logs(config.train.logs)
    parse_steps(config.train.profile_steps)
    return Keep.of(config.train)


def check_batches(config: RunConfig, buckets: Sequence[Bucket]) -> None:
    """ConfigError where a global batch of one of the planned ``buckets`` holds too few clips for the objective."""
    if config.objective.name not in NEEDS_NEGATIVES:
        return
    for bucket in buckets:
        if bucket.batch < 2:
            raise ConfigError(
                f"config.data.batch_seconds is {config.data.batch_seconds:g}: a batch of clips of up to "
                f"{bucket.edge / SAMPLE_RATE:g} s has 1 clip, and must have 2 or more; {why_negatives(config)}"
            )


def check_best_metric(keep: Keep, step: Callable, state: dict, batch: dict) -> None:
    """UserError where ``step(state, batch)`` gives no metric of the name that the best checkpoints go by.

    Args:
      step: from ``make_train_step``; it is traced, and nothing is compiled.
      state, batch: their shapes.
    """
    name = keep.metric.lstrip("+")
    if not keep.best or name == TrainConfig.best_metric:  # which every step gives
        return
    known = jax.eval_shape(step, state, batch)[1]
    if name not in known:
        raise UserError(
            f"config.train.best_metric is {keep.metric}, and no step of this run gives {name}: it must be one of "
            f"{', '.join(sorted(known))}, with + in front where higher is better"
        )
