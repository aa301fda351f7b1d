"""What the settings of a run must be, each for itself and together, before anything is read or compiled."""

from alp_jax.config.domain import check_domains
from alp_jax.config.errors import ConfigError
from alp_jax.config.schema import OptimConfig, RunConfig


def check_run(config: RunConfig) -> None:
    """Raises ConfigError for the first setting out of its domain, or the first that does not go with another."""
    check_domains(config)
    features = config.features
    if features.low_hz >= features.high_hz:
        raise ConfigError(
            f"config.features.low_hz is {features.low_hz:g}: it must be below config.features.high_hz, "
            f"{features.high_hz:g} Hz"
        )
    parts, clips = config.train.accumulate, config.data.clips_per_batch
    if clips and clips % parts:
        raise ConfigError(
            f"config.train.accumulate is {parts}: it must divide the {clips} clips of config.data.clips_per_batch"
        )


def warmup_steps(config: OptimConfig, steps: int) -> int:
    """Warm-up steps of a run of ``steps`` steps: no more than the run has, and for a cosine one fewer.

    A cosine needs at least one step to fall, so that the last one is not at the peak.
    """
    return min(config.warmup_steps, max(1, steps - (config.schedule == "cosine")))


def clamp_note(config: RunConfig) -> str:
    """One line if the configured warm-up is longer than the run, else empty; runs of 0 steps have none."""
    steps = config.train.steps
    asked, taken = config.optim.warmup_steps, warmup_steps(config.optim, steps)
    if not steps or asked <= taken:
        return ""
    return f"config.optim.warmup_steps is {asked}, longer than the run of {steps} steps: the warm-up takes {taken}"
