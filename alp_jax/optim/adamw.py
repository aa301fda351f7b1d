"""AdamW with linear warm-up and cosine decay, from optax."""

from typing import Any

import jax
import optax

from alp_jax.config.schema import OptimConfig
from alp_jax.core.errors import UserError

_DECAYED = ("kernel", "embedding")


def learning_rate(config: OptimConfig, steps: int) -> optax.Schedule:
    """Learning rate by step: 0 to ``lr`` over the warm-up, then a cosine to ``lr * final_lr_fraction`` at ``steps``."""
    warmup = min(config.warmup_steps, max(1, steps - 1))
    return optax.warmup_cosine_decay_schedule(
        0.0, config.lr, warmup, max(steps, warmup + 1), config.lr * config.final_lr_fraction
    )


def decay_mask(params: Any) -> Any:
    """True for matrices and kernels, False for biases, scales and norms."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path[-1:], simple=True) in _DECAYED, params
    )


def make_optimizer(config: OptimConfig, steps: int) -> optax.GradientTransformation:
    """The optimiser that ``config`` names, for a run of ``steps`` steps.

    Raises:
      UserError: an unknown name.
    """
    if config.name != "adamw":
        raise UserError(f"config.optim.name: {config.name!r} is not known (known: adamw)")
    clip = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm > 0 else []
    adamw = optax.adamw(
        learning_rate(config, steps),
        config.b1,
        config.b2,
        config.eps,
        weight_decay=config.weight_decay,
        mask=decay_mask,
    )
    return optax.chain(*clip, adamw)
