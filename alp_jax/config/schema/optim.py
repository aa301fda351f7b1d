"""Settings of the optimiser."""

import dataclasses

from alp_jax.config.domain import setting


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """The optimiser, its learning rate over the run, and which parameters learn more slowly or not at all."""

    name: str = setting(
        "adamw", "the optimiser; scaled_adam is the reference's, with lr 0.045", choices=("adamw", "scaled_adam")
    )
    lr: float = setting(1e-3, "peak learning rate", above=0)
    schedule: str = setting(
        "cosine",
        "learning rate over the run: cosine falls to final_lr_fraction at the last step, Eden has no last step",
        choices=("cosine", "eden", "eden2", "eden3"),
    )
    warmup_steps: int = setting(
        500, "time in which the rate rises to its peak, at most the whole run", unit="steps", low=0
    )
    warmup_start: float = setting(
        0.5, "Eden: share of the rate that the warm-up begins with; cosine begins with 0", low=0, high=1
    )
    final_lr_fraction: float = setting(0.0, "cosine: share of the peak rate at the last step", low=0, high=1)
    lr_batches: float = setting(7500.0, "Eden: time after which the rate begins to fall", unit="steps", above=0)
    lr_epochs: float = setting(3.5, "eden and eden3: time after which the rate begins to fall", unit="epochs", above=0)
    steps_per_epoch: float = setting(4000.0, "eden and eden3: length of an epoch", unit="steps", above=0)
    lr_scale: str = setting(
        "", "factors on the rate of parameters below NAME: NAME=FACTOR,... (encoder=0.5); 0 freezes them"
    )
    b1: float = setting(0.9, "decay of the mean gradient per step", low=0, below=1)
    b2: float = setting(0.98, "decay of the mean squared gradient per step", low=0, below=1)
    eps: float = setting(1e-8, "added to the root of the mean squared gradient", above=0)
    weight_decay: float = setting(0.01, "adamw: decay of matrices and convolution kernels", low=0)
    clip_norm: float = setting(1.0, "adamw: norm that gradients are scaled down to; 0 turns clipping off", low=0)
    clipping_scale: float = setting(
        2.0, "scaled_adam: limit in medians of the norms of the last clipping_period steps; 0 turns it off", low=0
    )
    clipping_period: int = setting(
        100, "scaled_adam: steps whose norms decide where gradients are clipped", unit="steps", low=1
    )
    scalar_lr_scale: float = setting(0.1, "scaled_adam: factor on the rate of scalars and of parameter sizes", low=0)
    size_period: int = setting(4, "scaled_adam: time between two updates of the parameter sizes", unit="steps", low=1)
