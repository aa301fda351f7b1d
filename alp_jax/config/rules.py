"""What the settings of a run must be, each for itself and together, before anything is read or compiled."""

from alp_jax.config.domain import check_domains
from alp_jax.config.errors import ConfigError
from alp_jax.config.schema import OptimConfig, RunConfig

NEEDS_NEGATIVES = ("contrastive", "hybrid")


def check_run(config: RunConfig) -> None:
    """Raises ConfigError for the first setting out of its domain, or the first that does not go with another."""
    check_domains(config)
    if config.objective.name == "none":
        raise ConfigError(
            "config.objective.name is none: that is an imported model without a text side, and there is nothing to "
            "train in it; choose contrastive, captioning, hybrid or tagging"
        )
    features = config.features
    if features.low_hz >= features.high_hz:
        raise ConfigError(
            f"config.features.low_hz is {features.low_hz:g}: it must be below config.features.high_hz, "
            f"{features.high_hz:g} Hz"
        )
    _check_negatives(config)
    _check_temperature(config)
    _check_parts(config)


def _check_negatives(config: RunConfig) -> None:
    """A clip is told from the others of its batch: of one clip there is nothing to learn."""
    if config.objective.name not in NEEDS_NEGATIVES:
        return
    if config.data.clips_per_batch == 1:  # where it goes by seconds, the clips say how many there are
        raise ConfigError(
            f"config.data.clips_per_batch is 1: it must be 2 or more, or 0 (go by seconds); {why_negatives(config)}"
        )


def why_negatives(config: RunConfig) -> str:
    return f"objective {config.objective.name} compares a clip with the others of its batch"


def _check_temperature(config: RunConfig) -> None:
    """The inverse temperature is limited: one that begins beyond the limit stays there, and nothing can learn it."""
    objective, least = config.objective, 1 / config.objective.max_logit_scale
    if objective.name in NEEDS_NEGATIVES and objective.temperature < least * (1 - 1e-6):
        raise ConfigError(
            f"config.objective.temperature is {objective.temperature:g}: it must be at least {least:g}, which is 1 / "
            f"config.objective.max_logit_scale; below it the run would train at {least:g}"
        )


def _check_parts(config: RunConfig) -> None:
    parts, clips = config.train.accumulate, config.data.clips_per_batch
    if clips and clips % parts:
        raise ConfigError(
            f"config.train.accumulate is {parts}: it must divide the {clips} clips of config.data.clips_per_batch"
        )


def warmup_steps(config: OptimConfig, steps: int) -> int:
    """Steps of the warm-up of a run of ``steps`` steps: no more than the run has, and one less for a cosine.

    A cosine needs a step to fall on, so that the last one is not at the peak.
    """
    return min(config.warmup_steps, max(1, steps - (config.schedule == "cosine")))


def clamp_note(config: RunConfig) -> str:
    """One line where the warm-up was asked to be longer than the run; else empty. Runs of 0 steps have none."""
    steps = config.train.steps
    asked, taken = config.optim.warmup_steps, warmup_steps(config.optim, steps)
    if not steps or asked <= taken:
        return ""
    return f"config.optim.warmup_steps is {asked}, longer than the run of {steps} steps: the warm-up takes {taken}"
